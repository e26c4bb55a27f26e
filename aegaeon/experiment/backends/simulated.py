"""`backend=simulated`: a plan in the discrete-event simulator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from aegaeon.core import Fleet
from aegaeon.experiment.backends.scored import scored
from aegaeon.experiment.backends.switch_stages import modelled_stages
from aegaeon.experiment.config import Simulated
from aegaeon.experiment.planned import Plan, Result
from aegaeon.experiment.sizes import check_sizes
from aegaeon.scoring.tables import pool_table, stages_table
from aegaeon.sim.host_pool import host_pool
from aegaeon.sim.simulator import Simulator
from profiles.cost import perturbed


class SimulatedBackend:
    """Needs nothing but this process."""

    tables = ("requests", "events", "pool", "stages")

    def __init__(self, options: Simulated) -> None:
        self._options = options

    def check(self, planned: Plan) -> Fleet:
        """Lay out the devices; refuse requests that fit no instance."""
        fleet = planned.config.system.fleet(planned.deployment)
        check_sizes(planned.arrivals, fleet, planned.deployment.costs)
        return fleet

    def prepare(self, planned: Plan) -> None:
        """Need nothing of this machine."""

    def execute(
        self, planned: Plan, progress: Callable[[int], None] | None, folder: Path
    ) -> Result:
        """Simulate and score; a table that takes more work is made if `keep` names it."""
        config, deployment, options = planned.config, planned.deployment, self._options
        truth = None
        if options.misprediction:
            truth = perturbed(deployment.costs, options.misprediction, planned.seed)
        log = Simulator(
            config.system,
            deployment,
            planned.fleet,
            planned.arrivals,
            truth,
            options.stepwise,
            progress,
        ).run()
        result = scored(planned, log)
        extra = {}
        if "pool" in config.keep:
            extra["pool"] = pool_table(host_pool(log, config.host_pool))
        if "stages" in config.keep:
            extra["stages"] = stages_table(modelled_stages(deployment))
        return replace(result, tables={**result.tables, **extra})
