"""A quick measurement of models' costs on live devices, which also warms the engines up.

The measurement suffices for the policies' estimates on a device without a profile; `aegaeon
profile` fits a whole grid. Every policy of the run gets the same costs: prefill times are means
over the instances that prefill, decoding times over those that decode.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median

from aegaeon.core import (
    CostModel,
    DecodeCost,
    Fleet,
    ModelCost,
    ModelSpec,
    PrefillCost,
    Stage,
    SwitchCost,
)
from aegaeon.live.measure.probe import DECODE_STEPS, Point, Round, Sample

SHORT, LONG, BATCH = 8, 1024, 4
ROUNDS = 3
_CYCLES = 2
_MARGIN_TOKENS = 2

Measured = Mapping[int, Sequence[Sample]]


def warm_up(models: Sequence[ModelSpec]) -> Round:
    """Return one round that uses every code path once, because first uses are slow."""
    return Round([p for spec in models for p in _points(spec)], cycles=1)


def quick(models: Sequence[ModelSpec]) -> list[Round]:
    """Return the rounds of a calibration."""
    return [Round([p for s in models for p in _points(s)], _CYCLES) for _ in range(ROUNDS)]


def longest(spec: ModelSpec) -> int:
    """Return the tokens of the longest prompt that a measurement can decode within `max_len`."""
    return spec.max_len - DECODE_STEPS - _MARGIN_TOKENS


def estimate(measured: Measured, fleet: Fleet, costs: CostModel) -> CostModel:
    """Return `costs` with the times that `quick` rounds measured on each instance."""
    return {name: _cost(name, cost, measured, fleet) for name, cost in costs.items()}


def of_stage(measured: Measured, fleet: Fleet, stage: Stage) -> list[Sequence[Sample]]:
    """Return the samples of each instance that serves `stage` in a run."""
    return [measured[spec.id] for spec in fleet if spec.stage in (stage, Stage.FULL)]


def _points(spec: ModelSpec) -> list[Point]:
    long = max(1, min(longest(spec), LONG))
    short = min(SHORT, long)
    return [Point(spec.name, n, b) for n, b in ((short, 1), (long, 1), (short, BATCH))]


def _cost(name: str, cost: ModelCost, measured: Measured, fleet: Fleet) -> ModelCost:
    prefill = _mean(of_stage(measured, fleet, Stage.PREFILL), name, "prefill")
    decode = _mean(of_stage(measured, fleet, Stage.DECODE), name, "decode")
    low, high = min(prefill), max([key for key in prefill if key[1] == 1])
    token = max(0.0, (prefill[high] - prefill[low]) / max(1.0, high[0] - low[0]))
    one, many = (min([key for key in decode if key[1] == size]) for size in (1, BATCH))
    request = max(0.0, (decode[many] - decode[one]) / (BATCH - 1))
    host_s, activate_s = (_changes(measured.values(), name, kind) for kind in ("host", "slot"))
    return replace(
        cost,
        prefill=PrefillCost(0.0, max(0.0, prefill[low] - token * low[0]), token, 0.0),
        decode=DecodeCost(max(0.0, decode[one] - request), 0.0, request),
        switch=SwitchCost(
            cost.switch.host_s if host_s is None else host_s,
            cost.switch.activate_s if activate_s is None else activate_s,
        ),
        source="measured when the run began",
    )


def _mean(
    instances: Collection[Sequence[Sample]], name: str, kind: str
) -> dict[tuple[float, int], float]:
    """Return the mean over instances of the median seconds, by (tokens, batch)."""
    found: dict[tuple[float, int], list[float]] = {}
    for samples in instances:
        mine = [s for s in samples if s.kind == kind and s.model == name]
        for key in {(s.tokens, s.batch) for s in mine}:
            times = [s.seconds for s in mine if (s.tokens, s.batch) == key]
            found.setdefault(key, []).append(median(times))
    return {key: fmean(times) for key, times in found.items()}


def _changes(instances: Collection[Sequence[Sample]], name: str, kind: str) -> float | None:
    """Return the median seconds of a switch to this model; None if no instance measured one."""
    seen = [s.seconds for all_ in instances for s in all_ if (s.model, s.kind) == (name, kind)]
    return max(0.0, median(seen)) if seen else None
