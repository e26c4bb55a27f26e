"""Fits of step times that no straight line follows: measured curves over tokens or the batch.

On a CPU, a step of two requests takes a third longer than a step of one, and a step of eight
little longer than a step of two. On a GPU, captured graphs and tiles add jumps. A curve has a point
at every measured size that is at least 1.4 times the size of the point before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aegaeon.core import DecodeCost, PrefillCost
from profiles.affine import features, fit_decode, fit_prefill
from profiles.leastsq import Array, relative, rounded

_APART = 1.4


def prefill_curve(x: Array, seconds: Array) -> PrefillCost:
    """Fit prefills of equal prompts: x, shape (n, 2), has their length and number."""
    prompts, tokens, tokens_sq = features(x)
    curve, token_sq_s, prompt_s = _fit(tokens, [tokens_sq, prompts - 1], seconds)
    straight = fit_prefill(x, seconds)
    return replace(straight, token_sq_s=token_sq_s, curve=curve, prompt_s=prompt_s)


def decode_curve(x: Array, seconds: Array) -> DecodeCost:
    """Fit decode steps: x, shape (n, 2), has the mean context and the batch."""
    batch, context, _ = features(x)
    curve, context_s = _fit(batch, [context], seconds)
    return replace(fit_decode(x, seconds), context_s=context_s, curve=curve)


def _fit(sizes: Array, others: Sequence[Array], seconds: Array) -> tuple[Any, ...]:
    """Return the curve over `sizes` and the slope over each of `others`, by relative errors."""
    places = _places(sizes)
    columns = np.column_stack([_shares(sizes, places), *others])
    found = rounded(relative(columns, seconds))
    heights, slopes = found[: len(places)], found[len(places) :]
    return tuple(zip(places.tolist(), heights, strict=True)), *slopes


def _places(sizes: Array) -> Array:
    kept: list[float] = []
    for size in np.unique(sizes).tolist():
        if not kept or size >= _APART * kept[-1]:
            kept.append(size)
    return np.array(kept)


def _shares(sizes: Array, places: Array) -> Array:
    """Return each point's weight in the curve's height at each size, shape (n, points)."""
    right = np.searchsorted(places, sizes).clip(1, len(places) - 1)
    low, high = places[right - 1], places[right]
    along = (np.maximum(sizes, low) - low) / (high - low)
    shares = np.zeros((len(sizes), len(places)))
    rows = np.arange(len(sizes))
    shares[rows, right - 1] = 1 - along
    shares[rows, right] = along
    return shares
