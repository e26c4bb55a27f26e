"""Steps with idle and with busy neighbours: the slowdown that instances of a node cause."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from aegaeon.core import Fleet, InstanceSpec, Stage
from aegaeon.live.measure.probe import Point, Round, Sample
from aegaeon.live.ray.session import Session

_BATCHES, _LENGTHS = (1, 4), (16, 64)
_LONGER = 1.3


def neighbours(spec: InstanceSpec, fleet: Fleet) -> list[InstanceSpec]:
    """Return the other instances of an instance's node."""
    return [other for other in fleet if other.node == spec.node and other.id != spec.id]


def crowding(
    session: Session, fleet: Fleet, spec: InstanceSpec, grid: Sequence[Point]
) -> list[Sample]:
    """Measure a few points of `grid` on one instance, with idle neighbours, then with busy ones.

    The kinds of the samples end in `_free` (idle neighbours) and `_crowd` (busy neighbours). A busy
    neighbour runs the steps of its stage in a run.
    """
    points = [p for p in grid if p.batch in _BATCHES and p.tokens in _LENGTHS] or list(grid)
    began = time.perf_counter()
    free = session.measure([{spec.id: Round(points)}])[spec.id]
    seconds = _LONGER * (time.perf_counter() - began)
    loads = {
        other.id: Round(_load(other.stage, grid), seconds=seconds)
        for other in neighbours(spec, fleet)
    }
    crowded = session.measure([{spec.id: Round(points), **loads}])[spec.id]
    return _renamed(free, "free") + _renamed(crowded, "crowd")


def _load(stage: Stage, grid: Sequence[Point]) -> list[Point]:
    """Return, per model, the longest point to prefill, the shortest to decode, or both."""
    chosen = []
    for model in dict.fromkeys([point.model for point in grid]):
        mine = sorted([p for p in grid if p.model == model], key=lambda p: p.tokens * p.batch)
        chosen += [mine[-1]] if stage is not Stage.DECODE else []
        chosen += [mine[0]] if stage is not Stage.PREFILL else []
    return chosen


def _renamed(samples: Sequence[Sample], suffix: str) -> list[Sample]:
    steps = [sample for sample in samples if sample.kind in ("prefill", "decode")]
    return [replace(sample, kind=f"{sample.kind}_{suffix}") for sample in steps]
