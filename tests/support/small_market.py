"""Small markets with costs and sizes that a test can compute by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aegaeon.core import (
    GB,
    Arrival,
    DecodeCost,
    Deployment,
    DeviceSpec,
    ModelCost,
    ModelSpec,
    PrefillCost,
    Request,
    Slo,
    SwitchCost,
)
from aegaeon.experiment.lengths import known_lengths
from aegaeon.policy.interface import System
from aegaeon.runlog import RunLog
from aegaeon.sim.simulator import Simulator

LINK = 10 * GB


def cost(**changes: Any) -> ModelCost:
    """Return a model's costs: 0.1 s per prefill, 0.02 s per decode step, 1 s per load over LINK.

    `changes` are fields; a nested field has the name of its part in front, as `prefill_base_s`.
    `switch_s` is the time of a switch from host memory.
    """
    values: dict[str, Any] = {
        "prefill_floor_s": 0.0,
        "prefill_base_s": 0.1,
        "prefill_token_s": 0.0,
        "prefill_token_sq_s": 0.0,
        "decode_base_s": 0.02,
        "decode_context_s": 0.0,
        "decode_request_s": 0.0,
        "switch_s": 1.0,
        "activate_s": 0.01,
        "weight_bytes": 10 * GB,
        "kv_bytes_per_token": 1_000_000,
    }
    values |= changes
    prefill, decode = (_part(values, f"{stage}_") for stage in ("prefill", "decode"))
    switch = SwitchCost(values.pop("switch_s"), values.pop("activate_s"))
    return ModelCost(PrefillCost(**prefill), DecodeCost(**decode), switch, **values)


def _part(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Remove the values with names that begin with `prefix`; return these by the name's rest."""
    names = [name for name in values if name.startswith(prefix)]
    return {name.removeprefix(prefix): values.pop(name) for name in names}


def model(name: str, tp: int = 1) -> ModelSpec:
    return ModelSpec(name, name, 5e9, 2, 64, 128, 4, 4, 16, max_len=4096, tp=tp)


def deployment(
    costs: Mapping[str, ModelCost],
    gpus: int = 2,
    kv_bytes: float = 10 * GB,
    weight_slots: int = 2,
    slo: Slo | None = None,
) -> Deployment:
    """Return a cluster of devices with room for `weight_slots` models and `kv_bytes` of KV."""
    weights = max(c.weight_bytes for c in costs.values())
    device = DeviceSpec(
        name="toy",
        memory_bytes=weight_slots * weights + kv_bytes,
        memory_bandwidth=1e12,
        peak_flops=1e14,
        pcie_bandwidth=16 * GB,
        usable_memory=1.0,
    )
    assert device.link_bandwidth == LINK
    return Deployment(
        device=device,
        gpus=gpus,
        gpus_per_node=8,
        models=tuple(model(name) for name in costs),
        costs=costs,
        slo=slo or Slo(10.0, 0.1),
        rates=dict.fromkeys(costs, 0.1),
    )


def arriving(*rows: tuple[str, float, int, int]) -> list[Arrival]:
    """Return a workload of (model, arrival, input tokens, output tokens), numbered by arrival."""
    ordered = sorted(rows, key=lambda row: row[1])
    return [Arrival(Request(i, *known), due) for i, (*known, due) in enumerate(ordered)]


def simulate(
    system: System, plan: Deployment, arrivals: Sequence[Arrival], stepwise: bool = False
) -> RunLog:
    plan = replace(plan, lengths=known_lengths(system, arrivals))
    return Simulator(system, plan, system.fleet(plan), arrivals, stepwise=stepwise).run()


def token_times(log: RunLog) -> dict[int, np.ndarray]:
    """Return every request's token times in seconds, by request number."""
    count = len(log.requests)
    times = {}
    for first, _, tokens, flat in log.timelines.chunks(count):
        parts = np.split(flat, np.cumsum(tokens)[:-1])
        times |= {first + i: part for i, part in enumerate(parts)}
    return times
