"""What work costs: models on one device, requests that share a device, a live engine's overheads.

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

    After the last point the last piece goes on. Points are (x, y) with x rising; two at least.
    """
    right = bisect_left(curve, x, 1, len(curve) - 1, key=itemgetter(0))
    (x0, y0), (x1, y1) = curve[right - 1], curve[right]
    return y0 + (y1 - y0) * (max(x, x0) - x0) / (x1 - x0)


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


IDEAL = Overheads()
