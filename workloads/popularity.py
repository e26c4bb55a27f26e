"""How a market's requests divide among its models (paper Figure 1a)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aegaeon.errors import UserError
from workloads.checks import require_choice

TAIL_MODELS = 0.941
"""Share of the market's models that are in its tail (733 of 779 in paper Figure 1a)."""

TAIL_REQUESTS = 0.0135
"""Share of the market's requests that its tail receives."""

SKEWS = ("uniform", "zipf", "market")


def popularity(count: int, skew: str) -> NDArray[np.float64]:
    """Return each model's share of the requests, shape (count,), sum 1, never increasing.

    `uniform` gives equal shares and `zipf` shares proportional to 1 / rank. `market` is a two-part
    Zipf: it falls as 1 / rank too, rescaled so that the last `tail_size(count)` models receive
    1.35 % of the requests together (paper Figure 1a). `UserError` on another skew or count < 1.
    """
    if count < 1:
        raise UserError(f"models.count: expected at least one model, got {count}")
    require_choice(SKEWS, skew=skew)
    if skew == "uniform":
        return np.full(count, 1.0 / count)
    weights = 1.0 / np.arange(1, count + 1)
    if skew == "market" and (tail := tail_size(count)):
        head = count - tail
        weights[:head] *= (1 - TAIL_REQUESTS) / weights[:head].sum()
        weights[head:] *= TAIL_REQUESTS / weights[head:].sum()
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def tail_size(count: int) -> int:
    """Return how many of `count` models are in the tail: 94.1 %, rounded, leaving a head of 1."""
    return min(round(TAIL_MODELS * count), count - 1)
