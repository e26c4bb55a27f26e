"""How well a fit predicts its points, in sample and held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aegaeon.core import DecodeCost, PrefillCost
from profiles.affine import features
from profiles.leastsq import Array

FOLDS = 4

Phase = PrefillCost | DecodeCost


@dataclass(frozen=True, slots=True)
class Quality:
    """A fit's number of points, its R2, and its relative errors in sample and held out."""

    points: int
    r2: float
    median_error: float
    p90_error: float
    held_out_median_error: float
    held_out_p90_error: float


def predict(fit: Phase, x: Array) -> Array:
    """Return the seconds, shape (n,), that `fit` gives for rows (length, batch)."""
    batch, tokens, tokens_sq = features(x)
    if isinstance(fit, DecodeCost):
        return np.array([fit.step_s(*row) for row in zip(batch, tokens, strict=True)])
    rows = zip(tokens, tokens_sq, batch, strict=True)
    return np.array([fit.seconds(*row) for row in rows])


def score(x: Array, y: Array, fitter: Callable[[Array, Array], Phase]) -> Quality:
    """Score `fitter` on its own points and by cross-validation over every fourth point."""
    inside = predict(fitter(x, y), x)
    held = np.empty_like(y)
    fold = np.arange(len(y)) % FOLDS
    for k in range(FOLDS):
        held[fold == k] = predict(fitter(x[fold != k], y[fold != k]), x[fold == k])
    r2 = 1 - ((inside - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    errors = [np.quantile(np.abs(p / y - 1), q) for p in (inside, held) for q in (0.5, 0.9)]
    return Quality(len(y), *(round(float(value), 4) for value in (r2, *errors)))
