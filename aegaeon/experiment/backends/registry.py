"""What carries a plan out, by the type of the configuration's `backend`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from aegaeon.core import Fleet
from aegaeon.errors import UserError
from aegaeon.experiment.backends.live import LiveBackend
from aegaeon.experiment.backends.measurements import OccupancyModel, SwitchCostMeasurement
from aegaeon.experiment.backends.simulated import SimulatedBackend
from aegaeon.experiment.config import Backend, Live, Occupancy, Simulated, SwitchCostBackend
from aegaeon.experiment.planned import Plan, Result


class Runner(Protocol):
    """Checks plans and carries them out; made from the options of `backend`.

    What a runner needs beyond numpy and pandas is imported when a plan is carried out.
    """

    @property
    def tables(self) -> Sequence[str]:
        """The names of the tables that a run may keep."""
        ...

    def check(self, planned: Plan) -> Fleet:
        """Refuse what cannot be carried out, before any work; return the plan's instances."""
        ...

    def prepare(self, planned: Plan) -> None:
        """Refuse what this machine cannot carry out, before the run is recorded."""
        ...

    def execute(
        self, planned: Plan, progress: Callable[[int], None] | None, folder: Path
    ) -> Result:
        """Carry a plan out; `progress` is told how many requests have arrived."""
        ...


# Backends serve the requests of a plan as its system decides.
BACKENDS: Mapping[type[Backend], Callable[[Any], Runner]] = {
    Simulated: SimulatedBackend,
    Live: LiveBackend,
}
# A model or a measurement serves none; a configuration names it in the place of a backend.
MEASUREMENTS: Mapping[type[Backend], Callable[[Any], Runner]] = {
    Occupancy: OccupancyModel,
    SwitchCostBackend: SwitchCostMeasurement,
}


def runner(options: Backend) -> Runner:
    """Return what the configuration's `backend` names; `UserError` for an unknown one."""
    known = {**BACKENDS, **MEASUREMENTS}
    if type(options) not in known:
        names = "simulated, live, occupancy, switch_cost"
        raise UserError(f"backend: {options.name!r} is not one of {names}")
    return known[type(options)](options)
