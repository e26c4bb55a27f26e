"""What work costs: a model on one device, models that share a device, a live engine's overheads.

Times are seconds, lengths tokens, sizes bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

Curve = tuple[tuple[float, float], ...]


def interpolated(curve: Curve, x: float) -> float:
    """Return a curve's height at `x`: straight between its points, level before the first.

    The last piece continues after the last point. A curve has two points (x, y) or more, x rising.
    """
    right = bisect_left(curve, x, 1, len(curve) - 1, key=itemgetter(0))
    (x0, y0), (x1, y1) = curve[right - 1], curve[right]
    return y0 + (y1 - y0) * (max(x, x0) - x0) / (x1 - x0)


def _scaled(curve: Curve, factor: float) -> Curve:
    return tuple([(x, y * factor) for x, y in curve])


@dataclass(frozen=True, slots=True)
class PrefillCost:
    """Seconds of a prefill of prompts with lengths n.

    A fit gives max(floor_s, base_s + token_s * sum(n) + token_sq_s * sum(n ** 2)). On a measured
    engine, `curve` over sum(n) replaces all terms but the squares', and each prompt after the first
    adds `prompt_s`.
    """

    floor_s: float
    base_s: float
    token_s: float
    token_sq_s: float
    curve: Curve = ()
    prompt_s: float = 0.0

    def seconds(self, tokens: float, tokens_sq: float, prompts: float = 1) -> float:
        """Return the time of `prompts` prompts: `tokens` is sum(n), `tokens_sq` sum(n ** 2)."""
        if self.curve:
            flat = interpolated(self.curve, tokens) + self.prompt_s * (prompts - 1)
            return flat + self.token_sq_s * tokens_sq
        linear = self.base_s + self.token_s * tokens + self.token_sq_s * tokens_sq
        return max(self.floor_s, linear)

    def scaled(self, factor: float) -> PrefillCost:
        """Return the cost with every time multiplied by `factor`."""
        return PrefillCost(
            self.floor_s * factor,
            self.base_s * factor,
            self.token_s * factor,
            self.token_sq_s * factor,
            _scaled(self.curve, factor),
            self.prompt_s * factor,
        )


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """Seconds of a decode step: base_s + context_s * context + request_s * batch.

    `context` is the sum of the batch's lengths. On a measured engine, `curve` over the batch
    replaces base_s + request_s * batch.
    """

    base_s: float
    context_s: float
    request_s: float
    curve: Curve = ()

    def step_s(self, batch: float, context: float) -> float:
        """Return the time of one step of `batch` requests whose lengths sum to `context`."""
        if self.curve:
            return interpolated(self.curve, batch) + self.context_s * context
        return self.base_s + self.context_s * context + self.request_s * batch

    def scaled(self, factor: float) -> DecodeCost:
        """Return the cost with every time multiplied by `factor`."""
        return DecodeCost(
            self.base_s * factor,
            self.context_s * factor,
            self.request_s * factor,
            _scaled(self.curve, factor),
        )


@dataclass(frozen=True, slots=True)
class SwitchCost:
    """Seconds of a change to a model.

    `host_s` brings the weights from the host; `activate_s` moves prefetched ones into place.
    """

    host_s: float
    activate_s: float

    def scaled(self, factor: float) -> SwitchCost:
        """Return the cost with both times multiplied by `factor`."""
        return SwitchCost(self.host_s * factor, self.activate_s * factor)


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What one model costs on one device: a fit, a measurement or a roofline (appendix A.2).

    Bytes are those of one device: a tensor-parallel rank's share. `source` says in words where the
    numbers come from.
    """

    prefill: PrefillCost
    decode: DecodeCost
    switch: SwitchCost
    weight_bytes: float
    kv_bytes_per_token: int
    source: str = "unknown"


CostModel = Mapping[str, ModelCost]


@dataclass(frozen=True, slots=True)
class SharingModel:
    """How work items that run at once on one device slow one another down.

    A share s of the SMs stretches a work item by 1 + f * (1 / s - 1), where f is the part of the
    item's time that SMs bound. Decodes also compete for memory bandwidth: a decode alone on the
    device uses the part `decode_bandwidth`, a stretched decode uses less, and all decodes together
    never use more than the whole. Only SMs bound a prefill. Shares lie in (0, 1]; factors are 1 or
    more.
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
        """Return the factor on a step's time; `shares` holds every decode's share, `share` too."""
        demand = sum([self.decode_bandwidth / self._decode_stretch(s) for s in shares])
        return self._decode_stretch(share) * max(1.0, demand)

    def _decode_stretch(self, share: float) -> float:
        return 1.0 + self.decode_sm * (1.0 / share - 1.0)


@dataclass(frozen=True, slots=True)
class Overheads:
    """What a live engine takes in addition to steps and copies; an ideal engine takes nothing.

    Attributes (seconds, unless said otherwise):
        send_s: from a request's arrival to the first instance.
        hand_over_s: from the end of a request's prefill to the decoding instance.
        admit_prefill_s, admit_decode_s: per request that an instance of that stage admits.
        turn_s: per work item.
        kv_move_s: per KV copy.
        wake_prefill_s, wake_decode_s: per work item on an instance that was idle (cold caches).
        crowd_prefill, crowd_decode: slowdown of a step while all other instances of the node are
            busy, a factor. It is scaled by the share of them that is.
        inline_copies: whether copies hold up the thread that runs steps (a CPU). A model's weights
            then stay in their slot until another model needs the slot.
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


IDEAL = Overheads()
