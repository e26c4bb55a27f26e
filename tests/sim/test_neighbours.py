"""Neighbours slow one another down while they work, and token times stay exact all the same.

Times as in `test_overheads.py`: 1 s per load, 0.1 s per prefill, 0.02 s per step.
"""

from dataclasses import dataclass, field, replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegaeon.core import Decode, InstanceSpec, Overheads, Prefill, Stage
from aegaeon.policy import decode
from aegaeon.policy.system import Aegaeon
from aegaeon.sim.neighbours import Neighbours
from aegaeon.sim.segment import Segment
from tests.support.random_markets import SYSTEMS, crowds, markets
from tests.support.small_market import arriving, cost, deployment, simulate, token_times

A = {"a": cost()}
DECODE, PREFILL = Decode("a", (), 1.0), Prefill("a", ())


@dataclass
class Member:
    spec: InstanceSpec
    told: list[float] = field(default_factory=list)

    def repace(self, now: float) -> None:
        self.told.append(now)


def node(*nodes: int) -> list[Member]:
    device = deployment(A).device
    specs = [InstanceSpec(i, Stage.DECODE, device, 1e9, 1e9, node=n) for i, n in enumerate(nodes)]
    return [Member(spec) for spec in specs]


def segment(most: int = 10, budget: float = float("inf")) -> Segment:
    return Segment(DECODE, [], [], 1.0, 0.1, 0.0, most, budget, None)


def ends(running: Segment) -> list[float]:
    return [p.start + p.step * (j + 1) for p in running.parts for j in range(p.steps)]


def test_the_factor_is_in_proportion_to_the_neighbours_at_work():
    neighbours, members = (
        Neighbours(Overheads(crowd_prefill=1.5, crowd_decode=2.0)),
        node(0, 0, 0, 1),
    )
    for member in members:
        neighbours.join(member)
    first, second, third, far = members
    assert neighbours.pace(first, DECODE) == 1.0
    neighbours.note(second, True, 3.0)
    neighbours.note(second, True, 4.0)
    assert (neighbours.pace(first, DECODE), neighbours.pace(first, PREFILL)) == (1.5, 1.25)
    assert neighbours.pace(second, DECODE) == neighbours.pace(far, DECODE) == 1.0
    neighbours.note(third, True, 5.0)
    assert neighbours.pace(first, DECODE) == 2.0
    neighbours.note(second, False, 6.0)
    neighbours.note(third, False, 7.0)
    assert neighbours.pace(first, DECODE) == 1.0
    assert (first.told, second.told, far.told) == ([3.0, 5.0, 6.0, 7.0], [5.0, 7.0], [])


def test_nobody_is_told_where_nothing_was_measured():
    neighbours, members = Neighbours(Overheads()), node(0, 0)
    for member in members:
        neighbours.join(member)
        neighbours.note(member, True, 1.0)
    assert [member.told for member in members] == [[], []]
    assert neighbours.pace(members[0], PREFILL) == 1.0


def test_a_segment_changes_its_pace_when_the_running_step_ends():
    running = segment()
    assert running.repace(2.0, 1.25)
    assert ends(running) == pytest.approx([1.1, 1.2, 1.3, *(1.3 + 0.2 * np.arange(1, 8))])
    # Before the first slow step has begun: as if nothing had been.
    assert running.repace(1.0, 1.28)
    assert ends(running) == pytest.approx(1.0 + 0.1 * np.arange(1, 11))
    assert not running.repace(1.0, 1.5)


def test_a_budget_counts_seconds_whatever_the_pace():
    running = segment(budget=0.55)
    assert len(ends(running)) == 6
    running.repace(2.0, 1.15)
    assert ends(running) == pytest.approx([1.1, 1.2, 1.4, 1.6])


def test_a_cut_ends_with_the_step_that_runs_also_after_a_change_of_pace():
    running = segment()
    running.repace(2.0, 1.25)
    assert running.cut(1.28)
    assert ends(running) == pytest.approx([1.1, 1.2, 1.3])
    assert not running.repace(1.0, 1.29)
    running = segment()
    running.repace(2.0, 1.25)
    assert running.cut(1.35)
    running.repace(1.0, 1.36)
    assert ends(running) == pytest.approx([1.1, 1.2, 1.3, 1.5])


def test_a_prefill_changes_its_pace_at_once_and_is_never_cut():
    running = Segment(PREFILL, [], [], 1.0, 0.1, 0.0, 1, 0.0, None)
    assert running.repace(1.5, 1.04)
    assert running.end == pytest.approx(1.13)
    assert not running.cut(1.05)
    assert running.repace(1.0, 1.07)
    assert running.end == pytest.approx(1.11)


def test_steps_are_slow_while_the_other_instance_works_and_the_prompt_as_well():
    plan = replace(deployment(A), overheads=Overheads(crowd_prefill=1.5, crowd_decode=2.0))
    arrivals = arriving(("a", 0.0, 100, 100), ("a", 3.005, 100, 2))
    simulation = simulate(Aegaeon(prefill=1, decode=1), plan, arrivals)
    first, second = (token_times(simulation)[i] for i in (0, 1))
    assert second[0] == pytest.approx(3.155)
    assert simulation.requests[1].prefill_s == pytest.approx(0.15)
    gaps = np.diff(first[1:])
    # The KV of its 101 tokens came after 10.1 ms.
    assert first[1:][:-1][gaps > 0.03] == pytest.approx([3.0101, 3.0501, 3.0901, 3.1301])
    assert gaps[gaps > 0.03] == pytest.approx(0.04)
    assert gaps[gaps < 0.03] == pytest.approx(0.02)
    assert simulation.requests[0].decode_s == pytest.approx(first[-1] - first[1] + gaps[0])


@pytest.mark.parametrize("name", ["aegaeon", "aegaeon_wide", "serverlessllm", "sleep_mode"])
@settings(max_examples=30, deadline=None)
@given(
    market=markets() | crowds(),
    prefill=st.sampled_from([1.0, 2**0.5]),
    decoding=st.sampled_from([1.0, 3**0.5 / 1.5]),
)
def test_fast_forward_gives_the_token_times_of_single_steps(name, market, prefill, decoding):
    system = SYSTEMS[name]
    overheads = Overheads(crowd_prefill=prefill, crowd_decode=decoding)
    plan = replace(market.deployment(system), overheads=overheads)
    with patch.object(decode, "OUTPUT_RESERVE", 4):
        fast, slow = (
            token_times(simulate(system, plan, market.arrivals, stepwise))
            for stepwise in (False, True)
        )
    for ident in fast:
        assert fast[ident] == pytest.approx(slow[ident], abs=1e-6)
