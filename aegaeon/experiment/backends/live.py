"""`backend=live`: a plan on vLLM engines under Ray, which are imported when it is carried out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aegaeon.core import Fleet
from aegaeon.experiment.backends.scored import scored
from aegaeon.experiment.config import Live
from aegaeon.experiment.origin import origin_of
from aegaeon.experiment.planned import Plan, Result
from aegaeon.experiment.sizes import check_sizes
from aegaeon.live.control.log import run_log
from aegaeon.live.preflight.checks import check_host, check_shares, check_types, live_fleet
from aegaeon.paths import CONF
from aegaeon.scoring.tables import costs_table, pool_table


def known_types() -> list[str]:
    """Return the model types of conf/model."""
    return [path.stem for path in (CONF / "model").glob("*.yaml")]


class LiveBackend:
    """Needs vLLM and Ray on this machine, or the address of a Ray cluster."""

    tables = ("requests", "events", "pool", "costs")

    def __init__(self, options: Live) -> None:
        self._options = options

    def check(self, planned: Plan) -> Fleet:
        """Lay out the devices; refuse what the configuration alone shows to be impossible."""
        options, deployment = self._options, planned.deployment
        # Before checkpoints are asked for: no checkpoint helps a system without a live form.
        check_shares(planned.config.system)
        check_types(deployment.models, options, known_types())
        check_host(deployment.models, options)
        fleet = live_fleet(planned.config.system, deployment, options)
        check_sizes(planned.arrivals, fleet, deployment.costs)
        return fleet

    def prepare(self, planned: Plan) -> None:
        """Refuse a machine without the packages or the memory."""
        from aegaeon.live.preflight.machine import check_machine

        check_machine(self._options, planned.deployment.gpus, planned.deployment.models)

    def execute(
        self, planned: Plan, progress: Callable[[int], None] | None, folder: Path
    ) -> Result:
        """Serve the arrivals at their times and score; logs go below `folder`."""
        from aegaeon.live.auth import use_auth
        from aegaeon.live.preflight.room import alone

        options, deployment = self._options, planned.deployment
        use_auth(options.auth)
        with alone(options):
            from aegaeon.live.backend import run_live

            log = run_log(
                run_live(
                    planned.config.system,
                    deployment,
                    planned.fleet,
                    planned.arrivals,
                    options,
                    folder,
                    planned.seed,
                    progress,
                )
            )
        result = scored(planned, log)
        extra = {"pool": pool_table(log.pool), "costs": costs_table(log.costs)}
        live = {"source": "live", "costs": origin_of(log.costs, planned.types)}
        return Result(result.row | live, {**result.tables, **extra})
