"""`aegaeon bench sim`: the speed of the simulator, per point, per event and at market scale."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from aegaeon.experiment.compose import composed
from aegaeon.experiment.plan import plan
from aegaeon.experiment.planned import Plan
from aegaeon.scoring.score import score_run
from aegaeon.sim.simulator import Simulator

REPEATS = 5
SYSTEMS = ("aegaeon", "serverlessllm", "serverlessllm_plus", "muxserve")
POINT = ("models.count=80", "workload.rate_rps=0.1", "workload.duration_s=120")
HOUR = ("models.count=2000", "workload.rate_rps=0.037", "workload.duration_s=3600")
HOUR_GPUS = ("hardware.gpus=400", "system.prefill=150", "system.decode=250")


@dataclass(frozen=True, slots=True)
class Timing:
    """One timed simulation: CPU seconds of simulating and scoring, and counts of what it did."""

    simulate_s: float
    score_s: float
    requests: int
    tokens: int
    events: int


def bench(large: bool = False) -> None:
    """Print medians of interleaved repeats at POINT; `large` adds HOUR, 2,000 models."""
    console = Console()
    plans = {system: _plan([f"system={system}", *POINT]) for system in SYSTEMS}
    runs: dict[str, list[Timing]] = {system: [] for system in SYSTEMS}
    for _ in range(REPEATS):
        for system, planned in plans.items():
            runs[system].append(_time(planned))
    table = _table("80 models, 16 GPUs, 120 s of traffic: CPU, median of 5")
    for system, timings in runs.items():
        _add(table, system, timings)
    console.print(table)
    if large:
        table = _table("2,000 models at 0.037 req/s, 400 GPUs, one hour of traffic")
        _add(table, "aegaeon", [_time(_plan([*HOUR, *HOUR_GPUS]))])
        console.print(table)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        console.print(f"peak memory {peak:.2f} GiB")


def _plan(overrides: list[str]) -> Plan:
    return plan(composed(overrides), seed=0)


def _time(planned: Plan) -> Timing:
    start = time.process_time()
    log = Simulator(
        planned.config.system, planned.deployment, planned.fleet, planned.arrivals
    ).run()
    simulated = time.process_time()
    score_run(log, planned.deployment.slo)
    return Timing(
        simulated - start,
        time.process_time() - simulated,
        len(planned.arrivals),
        int(log.timelines.count.sum()),
        log.events,
    )


def _table(title: str) -> Table:
    table = Table(title=title)
    for heading in ("system", "requests", "tokens", "events", "simulate", "score", "events/s"):
        table.add_column(heading, justify="left" if heading == "system" else "right")
    return table


def _add(table: Table, system: str, timings: Sequence[Timing]) -> None:
    simulate = statistics.median(t.simulate_s for t in timings)
    scoring = statistics.median(t.score_s for t in timings)
    one = timings[0]
    counts = (f"{one.requests:,}", f"{one.tokens:,}", f"{one.events:,}")
    speed = f"{one.events / simulate:,.0f}"
    table.add_row(system, *counts, f"{simulate:.3f} s", f"{scoring:.3f} s", speed)
