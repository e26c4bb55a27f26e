"""Independent random streams, so that one choice never disturbs another."""

from __future__ import annotations

import enum

import numpy as np

from aegaeon.errors import UserError


class Purpose(enum.IntEnum):
    """What a stream is drawn for; the numbers are part of every seeded result, never reuse one."""

    ARRIVALS = 0
    LENGTHS = 1
    POPULARITY = 2
    ASSIGNMENT = 3
    CONVERSATIONS = 4


def stream(seed: int, purpose: Purpose, index: int = 0) -> np.random.Generator:
    """Return the generator of one purpose (and model `index`); `UserError` if seed < 0."""
    if seed < 0:
        raise UserError(f"seeds: expected integers >= 0, got {seed}")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, index)))
