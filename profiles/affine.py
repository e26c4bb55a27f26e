"""Fits of step times by straight lines, as in the paper's appendix A.2.

The paper fits prefill and decode times by least squares. Ours minimise relative errors, have a
floor under short prefills, and take a lower bound for the terms that few measured points show.
"""

from __future__ import annotations

import numpy as np

from aegaeon.core import DecodeCost, PrefillCost
from profiles.leastsq import Array, floored, relative, rounded


def features(x: Array) -> tuple[Array, Array, Array]:
    """Return batch, sum of lengths and sum of squared lengths for rows (length, batch)."""
    lengths, batch = x.T
    return batch, lengths * batch, lengths**2 * batch


def fit_prefill(x: Array, seconds: Array, token_sq_min: float = 0.0) -> PrefillCost:
    """Fit prefills of equal prompts: x, shape (n, 2), has their length and number."""
    _, tokens, tokens_sq = features(x)
    columns = np.stack([np.ones_like(tokens), tokens, tokens_sq], axis=1)
    floor, slope = floored(columns, seconds, tokens, np.array([0.0, 0.0, token_sq_min]))
    floor_s, base_s, token_s, token_sq_s = rounded(np.array([floor, *slope]))
    return PrefillCost(floor_s, base_s, token_s, token_sq_s)


def fit_decode(x: Array, seconds: Array, context_min: float = 0.0) -> DecodeCost:
    """Fit decode steps: x, shape (n, 2), has the mean context and the batch."""
    batch, context, _ = features(x)
    columns = np.stack([np.ones_like(batch), context, batch], axis=1)
    found = relative(columns, seconds, np.array([0.0, context_min, 0.0]))
    base_s, context_s, request_s = rounded(found)
    return DecodeCost(base_s, context_s, request_s)
