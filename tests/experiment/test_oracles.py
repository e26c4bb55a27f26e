"""Only systems that declare it see how long an answer will be."""

import ast
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from aegaeon.core import Overheads
from aegaeon.experiment.config import from_hydra
from aegaeon.experiment.plan import plan
from aegaeon.experiment.planned import Plan
from aegaeon.paths import CONF
from aegaeon.policy.interface import NO_LENGTHS
from aegaeon.sim.simulator import Simulator
from figures.style import LOOKS, OTHERS
from tests.experiment.conftest import Composer

ROOT = Path(__file__).parents[2]
SYSTEMS = sorted(path.stem for path in (CONF / "system").glob("*.yaml"))
ORACLES = {"serverlessllm_plus", "serverlessllm_plus_paper"}
SMALL = ("models.count=32", "workload.rate_rps=0.5", "workload.duration_s=12")


@cache
def planned(system: str) -> Plan:
    # A system for two GPUs is the only one that does not use all of the default hardware.
    gpus = ["hardware.gpus=2"] if system == "aegaeon_1p1d" else []
    return plan(from_hydra(Composer()(f"system={system}", *SMALL, *gpus)), seed=0)


def finishes(run: Plan, lengths) -> np.ndarray:
    deployment = replace(run.deployment, lengths=lengths)
    done = Simulator(run.config.system, deployment, run.fleet, run.arrivals).run()
    return np.array([told.finish for told in done.requests])


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_is_an_oracle_where_this_list_says_so(system) -> None:
    run = planned(system)
    due = {arrival.request.id: arrival.output_tokens for arrival in run.arrivals}
    assert run.config.system.oracle == (system in ORACLES)
    assert run.deployment.lengths == (due if system in ORACLES else {})
    assert run.deployment.overheads == Overheads()


@pytest.mark.parametrize("system", sorted(set(SYSTEMS) - ORACLES))
def test_lengths_change_nothing_for_a_system_that_is_no_oracle(system) -> None:
    run = planned(system)
    told = {arrival.request.id: arrival.output_tokens for arrival in run.arrivals}
    assert np.array_equal(finishes(run, NO_LENGTHS), finishes(run, told), equal_nan=True)


@pytest.mark.parametrize("system", sorted(ORACLES))
def test_an_oracle_without_lengths_is_found_out(system) -> None:
    with pytest.raises(KeyError):
        finishes(planned(system), NO_LENGTHS)


def test_no_policy_reads_an_output_length() -> None:
    sources = [*(ROOT / "aegaeon" / "policy").rglob("*.py"), *(ROOT / "baselines").rglob("*.py")]
    readers = {
        path.relative_to(ROOT)
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "output_tokens"
    }
    assert readers == set()


def test_figures_call_an_oracle_one() -> None:
    looks = LOOKS | OTHERS
    assert {name for name, look in looks.items() if "oracle" in look.label} == ORACLES
