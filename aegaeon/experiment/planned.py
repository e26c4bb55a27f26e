"""A run before and after: the plan that is carried out, and the row and tables that come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from aegaeon.core import Arrival, Deployment, Fleet
from aegaeon.errors import UserError
from aegaeon.experiment.config import Config, Market, TraceWorkload, Workload
from aegaeon.experiment.origin import mix, origin_of
from aegaeon.results.schema import ROWS

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Plan:
    """A run about to start: everything built, everything checked.

    `fleet` is empty for a measurement, which serves no request. `clipped` counts requests that
    were cut to their model's longest, `skipped` rows of the trace that were left out.
    """

    config: Config
    seed: int
    deployment: Deployment
    arrivals: tuple[Arrival, ...]
    clipped: int = 0
    skipped: int = 0
    fleet: Fleet = ()

    @property
    def duration_s(self) -> float:
        """Seconds of traffic (`traffic_s`)."""
        return traffic_s(self.config.workload, self.arrivals)

    @property
    def types(self) -> dict[str, str]:
        """Each model's type, by the model's name."""
        return {model.name: model.type for model in self.deployment.models}


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run: its stored row and its tables by file stem."""

    row: Row
    tables: Mapping[str, pd.DataFrame]


def traffic_s(workload: Workload, arrivals: Sequence[Arrival]) -> float:
    """Return the seconds of traffic: the workload's, or those of a whole trace.

    A whole trace lasts from 0 to one mean gap after the last arrival, so that requests per second
    are the inverse of the mean gap. Raises UserError for a whole trace without a gap.
    """
    if workload.duration_s:
        return workload.duration_s
    first, last = arrivals[0].request.arrival, arrivals[-1].request.arrival
    if first == last:
        raise UserError(
            f"workload.duration_s: the trace's {len(arrivals)} request(s) arrive at one moment, "
            "which is no rate; set the seconds of traffic that they stand for"
        )
    return last + (last - first) / (len(arrivals) - 1)


def nominal_rate(workload: Workload) -> float:
    """Return the requests/s of one model that a workload asks for; 0 if a file says it."""
    if isinstance(workload, Market):
        return workload.rate_rps
    return workload.rate_rps * workload.rate_scale if isinstance(workload, TraceWorkload) else 0.0


def settings(planned: Plan) -> Row:
    """Return a row of the columns that say what was run; its measures are None."""
    config, slo, types = planned.config, planned.deployment.slo, planned.config.models.types
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
        "requests_clipped": planned.clipped,
        "rows_skipped": planned.skipped,
        "workload": config.workload.name,
        "mix": mix({key: kind.type for key, kind in types.items()}, config.models.shares),
        "misprediction": getattr(config.backend, "misprediction", 0.0),
        "costs": origin_of(planned.deployment.costs, planned.types),
        "overrides": "",
    }
    return {name: value for name, value in row.items() if name not in ROWS.of_role("provenance")}
