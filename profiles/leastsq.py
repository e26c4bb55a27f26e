"""Least squares with non-negative coefficients, and the piecewise fit of prefill times.

All fits here minimise the *relative* residual, prediction / measurement - 1, because a policy
compares a 10 ms step with a 200 ms prefill and both have to be right.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ROUNDS = 50


def nonnegative(x: Array, y: Array) -> Array:
    """Return c >= 0, shape (k,), that minimises ||x c - y||, for x of shape (n, k) and small k.

    The optimum is the unconstrained solution on its own support, so trying every support finds it.
    """
    k = x.shape[1]
    scale = np.abs(x).max(axis=0)
    usable = [j for j in range(k) if scale[j] > 0]
    scale[scale == 0] = 1.0
    q, r = np.linalg.qr(x / scale)
    target = q.T @ y
    best: Array = np.zeros(k)
    least = float(target @ target)
    for size in range(1, len(usable) + 1):
        for support in map(list, itertools.combinations(usable, size)):
            part = np.linalg.lstsq(r[:, support], target, rcond=None)[0]
            if (part < 0).any():
                continue
            loss = float(((r[:, support] @ part - target) ** 2).sum())
            if loss < least:
                best, least = np.zeros(k), loss
                best[support] = part
    result: Array = best / scale
    return result


def relative(x: Array, y: Array, lower: Array | None = None) -> Array:
    """Return c >= lower (default 0) that minimises the relative residual of x c against y > 0."""
    floor = np.zeros(x.shape[1]) if lower is None else lower
    weighted = x / y[:, None]
    return floor + nonnegative(weighted, 1.0 - weighted @ floor)


def floored(x: Array, y: Array, size: Array, lower: Array | None = None) -> tuple[float, Array]:
    """Fit y = max(floor, x c): return the floor and c >= lower, shape (k,).

    Each start puts the points whose `size` is at most some value on the floor; then points move to
    the side that predicts more for them until none moves. The best of all starts is kept.
    """
    need = x.shape[1] + 1
    best: tuple[float, Array] = (0.0, relative(x, y, lower))
    least = float(((x @ best[1] / y - 1) ** 2).sum())
    for cut in np.unique(size):
        flat = size <= cut
        if (~flat).sum() < need:
            break
        for _ in range(_ROUNDS):
            floor = float((1 / y[flat]).sum() / (1 / y[flat] ** 2).sum())
            slope = relative(x[~flat], y[~flat], lower)
            moved = x @ slope < floor
            if (moved == flat).all() or not moved.any() or (~moved).sum() < need:
                break
            flat = moved
        loss = float(((np.maximum(floor, x @ slope) / y - 1) ** 2).sum())
        if loss < least:
            best, least = (floor, slope), loss
    return best
