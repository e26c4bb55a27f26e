"""The samples of a model switch, and the measured models.

New processes import this module, so its imports are few.
"""

from __future__ import annotations

from dataclasses import dataclass

from aegaeon.core import ModelSpec

# Before each switch two other models must fill both weight slots.
MIN_MODELS = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to measure and its checkpoint; `max_len` is in tokens."""

    spec: ModelSpec
    path: str
    dtype: str
    max_len: int


@dataclass(frozen=True, slots=True)
class SwitchSample:
    """One measurement of one way (a key of `run.STAGES`) to get a model ready, in seconds."""

    way: str
    model: str
    seconds: float
    nbytes: int
