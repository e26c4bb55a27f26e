"""What a configuration may name as its backend and serves no request: a model, a measurement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from aegaeon.core import Fleet
from aegaeon.experiment.backends.live import known_types
from aegaeon.experiment.config import Occupancy, SwitchCostBackend
from aegaeon.experiment.origin import NO_COSTS
from aegaeon.experiment.planned import Plan, Result, settings
from aegaeon.live.preflight.checks import check_types
from aegaeon.scoring.tables import stages_table
from aegaeon.sim.occupancy import occupancy

# The counts and the costs of a row that served no request (results.schema).
NOTHING_SERVED: dict[str, object] = {
    **dict.fromkeys(("requests", "finished", "failed", "tokens", "switches"), 0),
    "costs": NO_COSTS,
}


class OccupancyModel:
    """Theorem 3.1: how many models have a request in flight if no request ever waits."""

    tables = ("series",)

    def __init__(self, options: Occupancy) -> None:
        self._options = options

    def check(self, planned: Plan) -> Fleet:
        """Accept any plan; the model has no instances."""
        return ()

    def prepare(self, planned: Plan) -> None:
        """Need nothing of this machine."""

    def execute(
        self, planned: Plan, progress: Callable[[int], None] | None, folder: Path
    ) -> Result:
        """Count the models in flight for every second; every request counts as finished."""
        index = {model.name: i for i, model in enumerate(planned.deployment.models)}
        outcome = occupancy(
            np.array([index[a.request.model] for a in planned.arrivals], dtype=np.int64),
            np.array([a.request.arrival for a in planned.arrivals]),
            self._options.mean_service_s,
            planned.duration_s,
            planned.seed,
        )
        count = len(planned.arrivals)
        row = settings(planned) | NOTHING_SERVED | {"requests": count, "finished": count}
        row |= {"system": "occupancy", "hardware": "none", "gpus": 0}
        row |= {"mean_active_models": outcome.mean_active}
        series = pd.DataFrame({"time_s": outcome.time_s, "active_models": outcome.active_models})
        return Result(row, {"series": series})


class SwitchCostMeasurement:
    """Figure 7: what a change of model costs on one device of this machine."""

    tables = ("stages",)

    def __init__(self, options: SwitchCostBackend) -> None:
        self._options = options

    def check(self, planned: Plan) -> Fleet:
        """Refuse models without a checkpoint; the measurement has no instances."""
        check_types(planned.deployment.models, self._options, known_types())
        return ()

    def prepare(self, planned: Plan) -> None:
        """Refuse a machine without the packages or the memory."""
        from aegaeon.live.preflight.machine import check_machine

        check_machine(self._options, 1, planned.deployment.models)

    def execute(
        self, planned: Plan, progress: Callable[[int], None] | None, folder: Path
    ) -> Result:
        """Measure every way to get ready; logs go below `folder`."""
        from aegaeon.live.preflight.room import alone

        with alone(self._options):
            from aegaeon.live.measure.switch_cost.run import switch_costs

            stages = switch_costs(planned.deployment.models, self._options, folder)
        row = settings(planned) | NOTHING_SERVED
        row |= {"source": "live", "system": "switch_cost", "gpus": 1}
        return Result(row, {"stages": stages_table(stages)})
