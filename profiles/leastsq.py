"""Least squares with non-negative coefficients, and the piecewise fit of prefill times.

Every fit minimises the *relative* residual, prediction / measurement - 1: a policy compares a
10 ms step with a 200 ms prefill, and both must be right.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ROUNDS = 50


def six_digits(value: float) -> float:
    """Return a value with six digits: more than the data hold, and the same on every machine."""
    return float(f"{value:.6g}")


def rounded(values: Array) -> list[float]:
    """Return the values, shape (n,), with six digits each."""
    return [six_digits(value) for value in values.tolist()]


def nonnegative(x: Array, y: Array) -> Array:
    """Return c >= 0, shape (k,), that minimises ||x c - y||, for x of shape (n, k) and small k.

    The optimum is the unconstrained solution on the optimum's support, so every support is tried.
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

    Each start puts the points up to some `size` on the floor. Points then move to the side with the
    larger prediction until no point moves. The start with the least error is kept.
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
