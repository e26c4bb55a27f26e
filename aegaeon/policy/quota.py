"""Time quotas of a decoding round (paper section 4.3, equations 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

QMAX_S = 4.0
ALPHA_FLOOR = 0.5


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas of one round, and the attainment that they allow.

    Attributes:
        quotas: seconds of decoding per batch, in the order of the batches.
        alpha: equation 3; the round lasts alpha * n_i * q_i seconds for every batch i.
        attainment: estimated share of tokens on time, min(1, 1 / alpha).
    """

    quotas: tuple[float, ...]
    alpha: float
    attainment: float


def decode_quotas(
    step_s: Sequence[float],
    switch_s: float,
    tbt_s: float,
    qmax_s: float = QMAX_S,
    alpha_floor: float = ALPHA_FLOOR,
) -> Quotas:
    """Return the quotas of a round of batches whose steps last `step_s` seconds each.

    `switch_s` (c) is the switching time of one whole round and n_i = tbt_s / step_s[i]:
    alpha = max(c / (min_k n_k * qmax_s) + sum_k 1 / n_k, alpha_floor)         (equation 3)
    q_i = c / (n_i * (alpha - sum_k 1 / n_k))                                  (equation 2)

    The paper leaves c = 0 open (0 / 0). A round without switches costs nothing to repeat, so every
    batch gets qmax_s * min_k n_k / n_i: the limit of equation 2 for c towards 0 without the floor.
    """
    if not step_s:
        return Quotas((), alpha_floor, 1.0)
    inverse = [step / tbt_s for step in step_s]
    slowest = max(inverse)
    load = sum(inverse)
    if switch_s <= 0.0:
        alpha = max(load, alpha_floor)
        return Quotas(tuple(qmax_s * i / slowest for i in inverse), alpha, min(1.0, 1.0 / alpha))
    # alpha - load, kept apart because a subtraction would lose a small c in rounding.
    gap = max(switch_s * slowest / qmax_s, alpha_floor - load)
    alpha, unit = load + gap, switch_s / gap
    return Quotas(tuple(unit * i for i in inverse), alpha, min(1.0, 1.0 / alpha))
