"""Every choice of `backend` has something that carries it out, and only some serve requests."""

import pytest
from hydra.core.config_store import ConfigStore

from aegaeon.core import Deployment
from aegaeon.errors import UserError
from aegaeon.experiment.backends.registry import BACKENDS, MEASUREMENTS, runner
from aegaeon.experiment.config import Backend, from_hydra
from aegaeon.experiment.execute import execute
from aegaeon.experiment.plan import plan
from aegaeon.policy.system import Aegaeon

COUNTS = ("requests", "finished", "failed", "tokens", "switches")


def test_every_schema_of_a_backend_has_a_runner() -> None:
    schemas = {
        node.node._metadata.object_type for node in ConfigStore.instance().repo["backend"].values()
    }
    assert schemas == {*BACKENDS, *MEASUREMENTS}


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UserError, match="backend: 'other' is not one of simulated, live"):
        runner(Backend("other"))


def test_the_fleet_is_laid_out_once(composed, monkeypatch) -> None:
    calls: list[Deployment] = []
    fleet = Aegaeon.fleet
    monkeypatch.setattr(Aegaeon, "fleet", lambda self, d: calls.append(d) or fleet(self, d))
    planned = plan(from_hydra(composed("models.count=4", "workload.duration_s=5")), seed=0)
    execute(planned)
    assert (len(calls), len(planned.fleet)) == (1, 16)


def test_a_model_of_occupancy_has_no_instances_and_serves_nothing(composed) -> None:
    planned = plan(from_hydra(composed("experiment=fig04")), seed=0)
    row = execute(planned).row
    assert planned.fleet == ()
    assert [row[name] for name in COUNTS] == [len(planned.arrivals)] * 2 + [0] * 3
    assert row["slo_attainment"] is None
