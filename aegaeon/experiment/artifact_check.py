"""`aegaeon validate`: our simulator against the public artifact's, on its own workload files.

The comparison needs two things that are not in the repository: the artifact's workload CSVs and a
table of what its simulator gave on them (columns system, num_models, token_deadline_attainment,
artifact_qos). Each system runs twice: on our costs with every request's own lengths, and on the
artifact's costs with resampled lengths, as the artifact's simulator does. docs/validation.md
explains what differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track

from aegaeon.core import Arrival, CostModel, DecodeCost, Deployment, ModelCost
from aegaeon.errors import UserError
from aegaeon.experiment.compose import composed
from aegaeon.experiment.lengths import known_lengths
from aegaeon.experiment.plan import plan
from aegaeon.experiment.planned import Plan
from aegaeon.experiment.sizes import check_sizes
from aegaeon.policy.interface import System
from aegaeon.scoring.goodput import crossing
from aegaeon.scoring.score import score_run
from aegaeon.sim.simulator import Simulator
from workloads import clip_lengths

WORKLOAD = Path("sharegpt_synth") / "synth-80-0.1-1.0-1.0.csv"
REFERENCE = "artifact_simulator_rate0.1.csv"
SYSTEMS = {
    "aegaeon": "Aegaeon",
    "serverlessllm_paper": "ServerlessLLM",
    "serverlessllm_plus_paper": "ServerlessLLM+",
}
METRICS = ("request_attainment", "artifact_qos")
# Both are means over requests. The artifact's token_deadline_attainment does not weigh tokens.
_THEIRS = {"request_attainment": "token_deadline_attainment", "artifact_qos": "artifact_qos"}
# The 40-model file covers 60 s instead of 120 s, so its point is not comparable.
_LEFT_OUT = (40,)
_DRAWS = 5
# A decode step of the artifact's simulator: its H100 fit at 850 tokens, cut to whole milliseconds,
# and its weight sizes in gigabytes (sim/__init__.py, sim/worker.py).
_ARTIFACT_COSTS = {
    "qwen2.5-7b": (0.008, 14.0),
    "yi-1.5-9b": (0.013, 18.0),
    "llama2-13b": (0.012, 26.0),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One system and metric: the 90 % crossings and the largest gap between the curves."""

    system: str
    metric: str
    inputs: str
    ours: float
    theirs: float
    largest_gap: float

    @property
    def deviation(self) -> float:
        """Our crossing relative to theirs, minus one."""
        return self.ours / self.theirs - 1.0


def validate(data: Path) -> list[Comparison]:
    """Simulate the artifact's workloads; return how the curves compare, a minute later."""
    for path in (data / WORKLOAD, data / REFERENCE):
        if not path.is_file():
            raise UserError(f"{path}: missing; give the folder with the artifact's files by --data")
    reference = pd.read_csv(data / REFERENCE)
    return list(_compare(data, reference))


def _compare(data: Path, reference: pd.DataFrame) -> Iterator[Comparison]:
    jobs = [(s, c) for s in SYSTEMS for c in ("ours", "its")]
    for system, costs in track(jobs, "Simulating", transient=True):
        rows = reference[reference.system == SYSTEMS[system]].sort_values("num_models")
        rows = rows[~rows.num_models.isin(_LEFT_OUT)]
        sizes = [int(n) for n in rows.num_models]
        ours = _curves(_plan(system, data), sizes, costs == "its")
        for metric in METRICS:
            theirs = rows[_THEIRS[metric]].to_numpy(dtype=float)
            here, there = crossing(sizes, ours[metric]), crossing(sizes, list(theirs))
            if here is None or there is None:
                raise UserError(f"{REFERENCE}: {system} never reaches 90 % of {metric}")
            gap = float(np.abs(np.array(ours[metric]) - theirs).max())
            yield Comparison(system, metric, costs, here.x, there.x, gap)


def _plan(system: str, data: Path) -> Plan:
    overrides = [f"system={system}", "hardware=h100x16_16gbs", "workload=artifact"]
    overrides += ["models.count=80", f"workload.path={data / WORKLOAD}"]
    return plan(composed(overrides), seed=0)


def _curves(planned: Plan, sizes: list[int], artifact: bool) -> dict[str, list[float]]:
    """Return attainment by metric; the artifact's smaller files are the first models' requests."""
    curves: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for size in sizes:
        models = planned.deployment.models[:size]
        costs: CostModel = {m.name: planned.deployment.costs[m.name] for m in models}
        if artifact:
            costs = {m.name: _artifact_cost(costs[m.name], m.type) for m in models}
        kept = [a for a in planned.arrivals if a.request.model in costs]
        arrivals = [replace(a, request=replace(a.request, id=i)) for i, a in enumerate(kept)]
        draws = [arrivals]
        if artifact:
            max_len = {m.name: m.max_len for m in models}
            draws = [_resampled(arrivals, max_len, seed) for seed in range(_DRAWS)]
        rates = {m.name: planned.deployment.rates[m.name] for m in models}
        deployment = replace(planned.deployment, models=models, costs=costs, rates=rates)
        points = [_attainments(planned.config.system, deployment, draw) for draw in draws]
        for metric, values in zip(METRICS, zip(*points, strict=True), strict=True):
            curves[metric].append(float(np.mean(values)))
    return curves


def _resampled(arrivals: list[Arrival], max_len: Mapping[str, int], seed: int) -> list[Arrival]:
    """Resample the pairs of lengths with replacement, as the artifact's simulator does."""
    picks = np.random.default_rng(seed).choice(len(arrivals), len(arrivals))
    inputs, outputs = clip_lengths(
        np.array([arrivals[pick].request.input_tokens for pick in picks]),
        np.array([arrivals[pick].output_tokens for pick in picks]),
        np.array([max_len[arrival.request.model] for arrival in arrivals]),
    )
    return [
        Arrival(replace(arrival.request, input_tokens=int(i)), int(o))
        for arrival, i, o in zip(arrivals, inputs, outputs, strict=True)
    ]


def _attainments(
    system: System, deployment: Deployment, arrivals: list[Arrival]
) -> tuple[float, float]:
    deployment = replace(deployment, lengths=known_lengths(system, arrivals))
    fleet = system.fleet(deployment)
    check_sizes(arrivals, fleet, deployment.costs)
    scores = score_run(Simulator(system, deployment, fleet, arrivals).run(), deployment.slo)
    due = np.array([a.output_tokens for a in arrivals])
    return float((scores.on_time / due).mean()), float(scores.artifact_qos.mean())


def _artifact_cost(cost: ModelCost, kind: str) -> ModelCost:
    step_s, gigabytes = _ARTIFACT_COSTS[kind]
    scale = gigabytes * 1e9 / cost.weight_bytes
    return replace(
        cost,
        decode=DecodeCost(step_s, context_s=0.0, request_s=0.0),
        switch=cost.switch.scaled(scale),
        weight_bytes=gigabytes * 1e9,
    )
