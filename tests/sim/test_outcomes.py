"""A scheduler hears how long steps took, whatever else its work waited for."""

from dataclasses import dataclass, field

import pytest

from aegaeon.core import Decode, Outcome, Prefill
from aegaeon.policy.system import Aegaeon
from baselines.muxserve import MuxServe
from tests.support.small_market import arriving, cost, deployment, simulate

COSTS = {"a": cost(decode_context_s=1e-5), "b": cost()}


@dataclass
class Told:
    """A scheduler that notes what it hears."""

    inner: object
    heard: list[tuple[object, Outcome]]

    def add(self, request, now):
        return self.inner.add(request, now)

    def next_work(self, now):
        return self.inner.next_work(now)

    def record(self, work, outcome, now):
        self.heard.append((work, outcome))
        self.inner.record(work, outcome, now)


@dataclass
class Listening:
    system: object
    heard: list = field(default_factory=list)

    @property
    def oracle(self):
        return False

    def fleet(self, plan):
        return self.system.fleet(plan)

    def dispatcher(self, plan, fleet):
        return self.system.dispatcher(plan, fleet)

    def scheduler(self, plan, spec):
        return Told(self.system.scheduler(plan, spec), self.heard)


@pytest.mark.parametrize(
    "system",
    [Aegaeon(prefill=1, decode=1), MuxServe(kv_share=0.3, activation_gb=0.1, overhead_gb=0.1)],
    ids=["time_shared", "space_shared"],
)
def test_the_time_in_steps_is_that_of_the_cost_model(system):
    plan = deployment(COSTS, kv_bytes=40e9)
    listening = Listening(system)
    simulate(listening, plan, arriving(("a", 0.0, 100, 20), ("b", 9.0, 50, 5)))
    kinds = {type(work) for work, _ in listening.heard}
    assert kinds == {Prefill, Decode}
    for work, outcome in listening.heard:
        model = COSTS[work.model]
        if isinstance(work, Prefill):
            (request,) = work.requests
            expected = model.prefill.seconds(request.input_tokens, request.input_tokens**2)
            assert (outcome.steps, outcome.step_s) == (1, pytest.approx(expected))
        else:
            assert outcome.busy_s == pytest.approx(outcome.end - outcome.start)
            assert outcome.step_s == pytest.approx(model.decode.step_s(1, 100), rel=0.02)


def test_no_step_takes_no_time():
    assert Outcome(1.0, 1.0, 0).step_s == 0.0
