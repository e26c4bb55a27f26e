"""One run: from a checked configuration to the row and tables that are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from aegaeon.core import Arrival, Deployment, DeviceSpec, ModelSpec, Slo
from aegaeon.errors import UserError
from aegaeon.experiment.config import (
    Config,
    Live,
    Market,
    Occupancy,
    Simulated,
    SwitchCostBackend,
    Trace,
    Workload,
)
from aegaeon.live.preflight.checks import check_host, check_types, live_fleet
from aegaeon.paths import CONF
from aegaeon.policy.interface import known_lengths
from aegaeon.results.schema import ROWS
from aegaeon.scoring.score import Scores, mean_active
from aegaeon.scoring.tables import (
    events_table,
    pool_table,
    requests_table,
    score_simulation,
    stages_table,
    summary,
)
from aegaeon.sim.occupancy import occupancy
from aegaeon.sim.simulator import Simulation, Simulator, check_sizes
from profiles.cost import cost_model, perturbed
from profiles.engine_profile import measured_device
from workloads import expand_market, market, model_rates, replay

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Plan:
    """A run about to start: everything built, everything checked."""

    config: Config
    seed: int
    deployment: Deployment
    arrivals: tuple[Arrival, ...]

    @property
    def duration_s(self) -> float:
        """Seconds of traffic: the workload's, or up to the last arrival of a whole trace."""
        return self.config.workload.duration_s or self.arrivals[-1].request.arrival or 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run: its stored row and its tables by file stem."""

    row: Row
    tables: Mapping[str, pd.DataFrame]


def plan(config: Config, seed: int) -> Plan:
    """Build models, costs and arrivals; raise `UserError` for what cannot be run."""
    device = DeviceSpec(**asdict(config.hardware.device))
    types = [
        (ModelSpec(name=kind.type, **asdict(kind)), config.models.shares[key])
        for key, kind in config.models.types.items()
    ]
    models = expand_market(types, config.models.count)
    arrivals = tuple(_arrivals(config, seed, models))
    if not arrivals:
        rate = "rate_scale" if isinstance(config.workload, Trace) else "rate_rps"
        raise UserError(f"workload.duration_s: no request arrives; raise it or workload.{rate}")
    costs = cost_model(models, device)
    # Policies lay out and plan with the link as it was measured, if it was.
    device, overheads = measured_device(device)
    slo = Slo(config.slo.ttft_s * config.slo.scale, config.slo.tbt_s * config.slo.scale)
    deployment = Deployment(
        device=device,
        gpus=config.hardware.gpus,
        gpus_per_node=config.hardware.gpus_per_node,
        models=models,
        costs=costs,
        slo=slo,
        rates=_rates(config, seed, models, arrivals),
        mean_input_tokens=float(np.mean([a.request.input_tokens for a in arrivals])),
        mean_output_tokens=float(np.mean([a.output_tokens for a in arrivals])),
        overheads=overheads,
        lengths=known_lengths(config.system, arrivals),
    )
    _check(config, deployment, arrivals)
    return Plan(config, seed, deployment, arrivals)


def _check(config: Config, deployment: Deployment, arrivals: Sequence[Arrival]) -> None:
    """Refuse what the backend could not carry out, before any work."""
    backend, models = config.backend, deployment.models
    if isinstance(backend, Live | SwitchCostBackend):
        check_types(models, backend, [path.stem for path in (CONF / "model").glob("*.yaml")])
    if isinstance(backend, Live):
        check_host(models, backend)
        check_sizes(arrivals, live_fleet(config.system, deployment, backend), deployment.costs)
    elif not isinstance(backend, Occupancy | SwitchCostBackend):
        check_sizes(arrivals, config.system.fleet(deployment), deployment.costs)


def run(
    planned: Plan, progress: Callable[[int], None] | None = None, folder: Path = Path()
) -> Result:
    """Carry a plan out on its backend; a live one writes its logs below `folder`."""
    backend = planned.config.backend
    if isinstance(backend, Occupancy):
        return _run_occupancy(planned, backend)
    if isinstance(backend, Simulated):
        return _run_simulated(planned, backend, progress)
    if isinstance(backend, Live):
        return _run_live(planned, backend, progress, folder)
    if isinstance(backend, SwitchCostBackend):
        return _run_switch_cost(planned, backend, folder)
    known = "simulated, live, occupancy, switch_cost"
    raise UserError(f"backend: {backend.name!r} is not one of {known}")


def _arrivals(config: Config, seed: int, models: tuple[ModelSpec, ...]) -> list[Arrival]:
    workload = config.workload
    if isinstance(workload, Market):
        return market(
            models,
            workload.rate_rps,
            workload.duration_s,
            seed=seed,
            skew=workload.skew,
            burstiness=workload.burstiness,
            input_scale=workload.input_scale,
            output_scale=workload.output_scale,
        )
    if isinstance(workload, Trace):
        return replay(
            Path(workload.path),
            workload.format,
            models,
            duration_s=workload.duration_s or None,
            rate_scale=workload.rate_scale,
            seed=seed,
            assign=workload.assign,
            input_scale=workload.input_scale,
            output_scale=workload.output_scale,
            rate_rps=workload.rate_rps,
        )
    raise UserError(f"workload: {workload.name!r} is neither a market nor a trace")


def nominal_rate(workload: Workload) -> float:
    """Return the requests/s of one model that a workload asks for; 0 if a file says it."""
    if isinstance(workload, Market):
        return workload.rate_rps
    return workload.rate_rps * workload.rate_scale if isinstance(workload, Trace) else 0.0


def _rates(
    config: Config, seed: int, models: tuple[ModelSpec, ...], arrivals: tuple[Arrival, ...]
) -> dict[str, float]:
    workload = config.workload
    if isinstance(workload, Market):
        return model_rates(models, workload.rate_rps, workload.skew, seed)
    counts = Counter(arrival.request.model for arrival in arrivals)
    duration = workload.duration_s or arrivals[-1].request.arrival or 1.0
    return {model.name: counts[model.name] / duration for model in models}


def _run_simulated(
    planned: Plan, backend: Simulated, progress: Callable[[int], None] | None
) -> Result:
    deployment, config = planned.deployment, planned.config
    truth = None
    if backend.misprediction:
        truth = perturbed(deployment.costs, backend.misprediction, planned.seed)
    simulation = Simulator(
        config.system, deployment, planned.arrivals, truth, backend.stepwise, progress
    ).run()
    scores = score_simulation(simulation, deployment.slo)
    types = {model.name: model.type for model in deployment.models}
    tables = {
        "requests": requests_table(simulation, scores, types),
        "events": events_table(simulation, types),
    }
    if "pool" in config.keep:
        tables["pool"] = pool_table(simulation, config.host_pool)
    if "stages" in config.keep:
        tables["stages"] = stages_table(deployment)
    return Result(_row(planned, simulation, scores), tables)


def _run_live(
    planned: Plan, backend: Live, progress: Callable[[int], None] | None, folder: Path
) -> Result:
    from aegaeon.live.auth import use_auth
    from aegaeon.live.preflight.machine import check_machine

    check_machine(backend, planned.deployment.gpus, planned.deployment.models)
    use_auth(backend.auth)
    from aegaeon.experiment.live_tables import as_simulation, live_tables
    from aegaeon.live.backend import run_live

    deployment, system = planned.deployment, planned.config.system
    live = run_live(system, deployment, planned.arrivals, backend, folder, planned.seed, progress)
    simulation = as_simulation(live, deployment.costs)
    scores = score_simulation(simulation, deployment.slo)
    tables = live_tables(live, simulation, scores, deployment.models)
    return Result(_row(planned, simulation, scores) | {"source": "live"}, tables)


def _run_switch_cost(planned: Plan, backend: SwitchCostBackend, folder: Path) -> Result:
    from aegaeon.live.preflight.machine import check_machine

    check_machine(backend, 1, planned.deployment.models)
    from aegaeon.live.measure.switch_cost.run import switch_costs

    stages = switch_costs(planned.deployment.models, backend, folder)
    row = _settings(planned) | {"source": "live", "system": "switch_cost", "gpus": 1}
    row |= {"requests": 0, "finished": 0, "failed": 0, "tokens": 0, "switches": 0}
    return Result(row, {"stages": stages})


def _row(planned: Plan, simulation: Simulation, scores: Scores) -> Row:
    row = _settings(planned) | summary(simulation, scores, planned.duration_s)
    return row | {"mean_active_models": _mean_active(planned, simulation)}


def _mean_active(planned: Plan, simulation: Simulation) -> float:
    index = {model.name: i for i, model in enumerate(planned.deployment.models)}
    served = [t for t in simulation.tracks if not t.failed]
    return mean_active(
        np.array([index[t.request.model] for t in served], dtype=np.int64),
        np.array([t.request.arrival for t in served]),
        np.array([t.finish for t in served]),
        0.0,
        planned.duration_s,
    )


def _run_occupancy(planned: Plan, backend: Occupancy) -> Result:
    index = {model.name: i for i, model in enumerate(planned.deployment.models)}
    outcome = occupancy(
        np.array([index[a.request.model] for a in planned.arrivals], dtype=np.int64),
        np.array([a.request.arrival for a in planned.arrivals]),
        backend.mean_service_s,
        planned.duration_s,
        planned.seed,
    )
    row = _settings(planned)
    count = len(planned.arrivals)
    row |= {"requests": count, "finished": count, "failed": 0, "tokens": 0, "switches": 0}
    row |= {"mean_active_models": outcome.mean_active, "system": "occupancy", "gpus": 0}
    row |= {"hardware": "none"}
    series = pd.DataFrame({"time_s": outcome.time_s, "active_models": outcome.active_models})
    return Result(row, {"series": series})


def _settings(planned: Plan) -> Row:
    """Return the columns that say what was run; measures are empty until filled in."""
    config, slo = planned.config, planned.deployment.slo
    row: Row = dict.fromkeys(ROWS.names)
    row |= {
        "experiment": config.name,
        "figure": config.figure,
        "system": config.system.name,
        "source": "simulated",
        "hardware": config.hardware.name,
        "gpus": config.hardware.gpus,
        "num_models": config.models.count,
        "rate_rps": nominal_rate(config.workload)
        or len(planned.arrivals) / planned.duration_s / config.models.count,
        "input_scale": config.workload.input_scale,
        "output_scale": config.workload.output_scale,
        "slo_scale": config.slo.scale,
        "ttft_slo_s": slo.ttft_s,
        "tbt_slo_s": slo.tbt_s,
        "seed": planned.seed,
        "duration_s": planned.duration_s,
    }
    return {name: value for name, value in row.items() if name not in ROWS.of_role("provenance")}
