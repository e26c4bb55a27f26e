"""What is measured of a change of model, and on which models; light, as new processes import it."""

from __future__ import annotations

from dataclasses import dataclass

from aegaeon.core import ModelSpec

# Two weight slots must be full of others before each switch.
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
    """One measurement of one way (a key of `run.STAGES`) for a model to get ready."""

    way: str
    model: str
    seconds: float
    nbytes: int
