"""The vocabulary every room shares: requests, models, devices, service objectives, work, costs.

Everything here is immutable and checks itself on construction. Times are seconds on one clock that
starts at 0 when the run starts; sizes are bytes; lengths are tokens.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

GB = 1e9

Curve = tuple[tuple[float, float], ...]


def interpolated(curve: Curve, x: float) -> float:
    """Return a curve's height at `x`: straight between its points, level before the first.

    After the last point the last piece goes on. Points are (x, y) with x rising; two at least.
    """
    right = bisect_left(curve, x, 1, len(curve) - 1, key=itemgetter(0))
    (x0, y0), (x1, y1) = curve[right - 1], curve[right]
    return y0 + (y1 - y0) * (max(x, x0) - x0) / (x1 - x0)


class Stage(enum.Enum):
    """The part of a request's life that an instance serves."""

    PREFILL = "prefill"
    DECODE = "decode"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Request:
    """One accepted request: `output_tokens` is what it will produce, known to oracles only."""

    id: int
    model: str
    arrival: float
    input_tokens: int
    output_tokens: int

    def __post_init__(self) -> None:
        if self.arrival < 0 or self.input_tokens < 1 or self.output_tokens < 1:
            raise ValueError(f"request {self.id}: needs arrival >= 0 and lengths >= 1, got {self}")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder-only transformer; enough to size its weights, its KV cache and a roofline."""

    name: str
    type: str
    parameters: float
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    max_len: int
    dtype_bytes: int = 2
    tp: int = 1

    def __post_init__(self) -> None:
        sizes = (self.parameters, self.layers, self.hidden, self.ffn, self.heads, self.kv_heads)
        if min(*sizes, self.head_dim, self.max_len, self.dtype_bytes, self.tp) <= 0:
            raise ValueError(f"model {self.name}: every size must be positive, got {self}")
        if self.heads % self.kv_heads:
            raise ValueError(f"model {self.name}: heads must be a multiple of kv_heads")

    @property
    def weight_bytes(self) -> float:
        """Bytes of weights of the whole model (all tensor-parallel ranks together)."""
        return self.parameters * self.dtype_bytes

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values of one token over all layers and ranks (true GQA size)."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype_bytes


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A GPU and its host link; `pcie_efficiency` is the constant of the paper's appendix A.2."""

    name: str
    memory_bytes: float
    memory_bandwidth: float
    peak_flops: float
    pcie_bandwidth: float
    pcie_efficiency: float = 0.625
    usable_memory: float = 0.9

    def __post_init__(self) -> None:
        positive = (self.memory_bytes, self.memory_bandwidth, self.peak_flops, self.pcie_bandwidth)
        if min(positive) <= 0:
            raise ValueError(f"device {self.name}: every size must be positive, got {self}")
        if not (0 < self.pcie_efficiency <= 1 and 0 < self.usable_memory <= 1):
            raise ValueError(f"device {self.name}: efficiencies must lie in (0, 1], got {self}")

    @property
    def link_bandwidth(self) -> float:
        """Bytes per second that a host-to-device copy reaches in practice, one direction."""
        return self.pcie_bandwidth * self.pcie_efficiency


@dataclass(frozen=True, slots=True)
class Slo:
    """Token k (from 0) of a request is due at arrival + ttft_s + k * tbt_s (paper section 2.1)."""

    ttft_s: float
    tbt_s: float

    def __post_init__(self) -> None:
        if self.ttft_s <= 0 or self.tbt_s <= 0:
            raise ValueError(f"SLO targets must be positive, got {self}")


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What one model costs on one device: affine fits or a roofline (paper appendix A.2).

    Attributes are seconds: a prefill of n prompts costs max(floor, base + token * sum(len) +
    token_sq * sum(len ** 2)); a decode step costs base + context * sum(len) + request * batch.
    Where an engine was measured, `prefill_curve` over sum(len) and `decode_curve` over the batch
    take the place of what has no square and no context; each prompt after a prefill's first takes
    `prefill_prompt_s` more.
    `switch_s` brings the weights from the host, `activate_s` moves prefetched ones into place.
    Byte counts are per device (a tensor-parallel rank's share).
    """

    prefill_floor_s: float
    prefill_base_s: float
    prefill_token_s: float
    prefill_token_sq_s: float
    decode_base_s: float
    decode_context_s: float
    decode_request_s: float
    switch_s: float
    activate_s: float
    weight_bytes: float
    kv_bytes_per_token: int
    source: str = "unknown"
    prefill_curve: Curve = ()
    prefill_prompt_s: float = 0.0
    decode_curve: Curve = ()

    def prefill_s(self, tokens: int, tokens_sq: int, prompts: int = 1) -> float:
        """Seconds to prefill prompts of `tokens` tokens in all, `tokens_sq` their squares' sum."""
        if self.prefill_curve:
            flat = interpolated(self.prefill_curve, tokens) + self.prefill_prompt_s * (prompts - 1)
            return flat + self.prefill_token_sq_s * tokens_sq
        linear = self.prefill_base_s + self.prefill_token_s * tokens
        return max(self.prefill_floor_s, linear + self.prefill_token_sq_s * tokens_sq)

    def decode_step_s(self, batch: int, context: float) -> float:
        """Seconds of one decode step of `batch` requests whose lengths sum to `context`."""
        if self.decode_curve:
            return interpolated(self.decode_curve, batch) + self.decode_context_s * context
        return self.decode_base_s + self.decode_context_s * context + self.decode_request_s * batch


CostModel = Mapping[str, ModelCost]


@dataclass(frozen=True, slots=True)
class SharingModel:
    """How pieces of work that run at once on one device slow one another down.

    A share s of the SMs stretches work by 1 + f * (1 / s - 1), where f is the part of its time that
    SMs bound. Decodes also compete for memory bandwidth: one that has the device to itself uses
    `decode_bandwidth` of it, a stretched one less, and together they never use more than all.
    Prefills are taken as bound by SMs alone. Shares lie in (0, 1]; factors are 1 or more.
    """

    prefill_sm: float
    decode_sm: float
    decode_bandwidth: float
    source: str = "unknown"

    def __post_init__(self) -> None:
        parts = (self.prefill_sm, self.decode_sm, self.decode_bandwidth)
        if not (min(parts) >= 0 and max(parts) <= 1):
            raise ValueError(f"sharing model: every part must lie in [0, 1], got {self}")

    def prefill_slowdown(self, share: float) -> float:
        """Return the factor on a prefill's time with `share` of the SMs."""
        return 1.0 + self.prefill_sm * (1.0 / share - 1.0)

    def decode_slowdown(self, share: float, shares: Sequence[float]) -> float:
        """Return the factor on a step's time; `shares` are those of all decodes, this one's too."""
        demand = sum([self.decode_bandwidth / self._decode_stretch(s) for s in shares])
        return self._decode_stretch(share) * max(1.0, demand)

    def _decode_stretch(self, share: float) -> float:
        return 1.0 + self.decode_sm * (1.0 / share - 1.0)


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """A worker that owns a device, a tensor-parallel group, or shares a device among models.

    Attributes:
        kv_bytes: room for KV blocks on the device.
        weight_slots: 2 keeps room for one prefetched model beside the running one.
        models: the models resident for good (MuxServe); empty when models are switched.
        sharing: how resident models slow one another down; needed where there are any.
        keep_kv: False drops KV on a switch; it is recomputed by a further prefill.
        lazy_eviction: True leaves KV on the device until another model needs its bytes.
        link_bandwidth: bytes per second of host-to-device copies, each direction.
    """

    id: int
    stage: Stage
    device: DeviceSpec
    kv_bytes: float
    link_bandwidth: float
    tp: int = 1
    node: int = 0
    weight_slots: int = 1
    models: tuple[str, ...] = ()
    sharing: SharingModel | None = None
    keep_kv: bool = True
    lazy_eviction: bool = True


Fleet = tuple[InstanceSpec, ...]


@dataclass(frozen=True, slots=True)
class Overheads:
    """What a live engine takes beside steps and copies; an ideal one takes nothing.

    Attributes are seconds: `send_s` from a request's arrival to the first instance, `hand_over_s`
    from the end of its prefill to the decoding instance, `admit_prefill_s` and `admit_decode_s` per
    request that such an instance takes in, `wake_prefill_s` and `wake_decode_s` more when it was
    idle (cold caches), `turn_s` per piece of work, `kv_move_s` per KV copy.

    `crowd_prefill` and `crowd_decode` are factors on steps while all other instances of the node
    work; while some do, it is as much of that. With `inline_copies` (a CPU) copies hold up the
    thread that runs steps, and a model's weights stay where they are until their slot is needed.
    """

    send_s: float = 0.0
    hand_over_s: float = 0.0
    admit_prefill_s: float = 0.0
    admit_decode_s: float = 0.0
    turn_s: float = 0.0
    kv_move_s: float = 0.0
    wake_prefill_s: float = 0.0
    wake_decode_s: float = 0.0
    crowd_prefill: float = 1.0
    crowd_decode: float = 1.0
    inline_copies: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a system is given to plan with: the devices, the market, its rates and the objective.

    `rates` are requests per second per model, as an operator would know them on average.
    `overheads` are what the simulator adds; no policy reads them.
    """

    device: DeviceSpec
    gpus: int
    gpus_per_node: int
    models: tuple[ModelSpec, ...]
    costs: CostModel
    slo: Slo
    rates: Mapping[str, float] = field(default_factory=dict)
    mean_input_tokens: float = 714.0
    mean_output_tokens: float = 300.0
    overheads: Overheads = Overheads()


@dataclass(frozen=True, slots=True)
class Prefill:
    """Run the prompts of `requests` in one batch; each gives its first token at the end.

    A request whose KV was dropped is prefilled again, prompt and generated tokens alike, and gives
    its next token.
    """

    model: str
    requests: tuple[Request, ...]
    prefetch: str | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Decode:
    """Decode `requests` together for `quota` seconds of decoding, switch time not counted.

    The backend stops earlier, at a step's end, when a request finishes or the scheduler's `add`
    asked for a cut. A step that has begun is completed; at least one step is done.
    """

    model: str
    requests: tuple[Request, ...]
    quota: float
    prefetch: str | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up on requests, for systems that drop late ones; all their tokens count as late."""

    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to do before `until` unless a request is added."""

    until: float = float("inf")


Work = Prefill | Decode | Fail | Idle


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a backend did of a piece of work.

    Attributes:
        start: when the first step began, after the switch and the first KV block's arrival.
        end: when the last step ended.
        steps: tokens each request that ran gained.
        finished: requests that produced their last token.
        skipped: requests that did not run because their KV did not fit beside the others'.
        switch_s: seconds the change of model took; None when there was none.
    """

    start: float
    end: float
    steps: int
    finished: tuple[Request, ...] = ()
    skipped: tuple[Request, ...] = ()
    switch_s: float | None = None
