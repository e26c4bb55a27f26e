"""From a checked configuration to the plan of a run: models, costs, arrivals, instances."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from aegaeon.core import Arrival, Deployment, ModelSpec, Slo
from aegaeon.errors import UserError
from aegaeon.experiment.backends.registry import runner
from aegaeon.experiment.config import Config, Market, TraceWorkload
from aegaeon.experiment.lengths import known_lengths
from aegaeon.experiment.planned import Plan, traffic_s
from profiles.cost import cost_model
from profiles.engine_profile import measured_device
from workloads import Arrivals, Reading, expand_market, market, model_rates, replay


def plan(config: Config, seed: int) -> Plan:
    """Build models, costs and arrivals; raise `UserError` for what cannot be run."""
    device = config.hardware.device.spec()
    models = market_models(config)
    drawn = arrivals_of(config, seed, models)
    arrivals = tuple(drawn)
    if not arrivals:
        rate = "rate_scale" if isinstance(config.workload, TraceWorkload) else "rate_rps"
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
    planned = Plan(config, seed, deployment, arrivals, drawn.clipped, drawn.skipped)
    backend = runner(config.backend)
    if lacking := sorted(set(config.keep) - set(backend.tables)):
        made = ", ".join(backend.tables)
        raise UserError(f"keep: this backend makes no table {lacking[0]!r}, only {made}")
    return replace(planned, fleet=backend.check(planned))


def market_models(config: Config) -> tuple[ModelSpec, ...]:
    """Return the models of the market that a configuration describes."""
    types = [(kind.spec(), config.models.shares[key]) for key, kind in config.models.types.items()]
    return expand_market(types, config.models.count)


def arrivals_of(config: Config, seed: int, models: tuple[ModelSpec, ...]) -> Arrivals:
    """Draw or read the arrivals of a workload; raise `UserError` for what cannot be read."""
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
    if isinstance(workload, TraceWorkload):
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
            start_s=workload.start_s,
            reading=Reading(workload.time_unit, workload.skip_empty),
        )
    raise UserError(f"workload: {workload.name!r} is neither a market nor a trace")


def _rates(
    config: Config, seed: int, models: tuple[ModelSpec, ...], arrivals: tuple[Arrival, ...]
) -> dict[str, float]:
    workload = config.workload
    if isinstance(workload, Market):
        return model_rates(models, workload.rate_rps, workload.skew, seed)
    counts = Counter(arrival.request.model for arrival in arrivals)
    duration = traffic_s(workload, arrivals)
    return {model.name: counts[model.name] / duration for model in models}
