"""Request-level autoscaling and whole-model switching on live instances: right tokens, all done."""

import random

import pytest

from aegaeon.core import (
    DecodeCost,
    Deployment,
    DeviceSpec,
    ModelCost,
    ModelSpec,
    PrefillCost,
    Slo,
    Stage,
    SwitchCost,
)
from aegaeon.live.events import Failed, Finished, Moved, Ran, Switched, Tokens
from aegaeon.policy import decode
from aegaeon.policy.interface import Refusal
from baselines.serverlessllm.ours import ServerlessLLM
from baselines.sleep_mode import SleepMode

pytest.importorskip("vllm")
pytestmark = pytest.mark.live

COST = ModelCost(
    PrefillCost(0.0, 1e-3, 1e-5, 0.0), DecodeCost(2e-3, 0.0, 0.0), SwitchCost(2e-3, 5e-4), 1e6, 2048
)
DEVICE = DeviceSpec("cpu", 2e9, 1e9, 1e9, 1e9, 1.0, 1.0)
SYSTEMS = {
    "serverlessllm": ServerlessLLM(),
    "serverlessllm_plus": ServerlessLLM(shortest_first=True),
    "sleep_mode": SleepMode(),
    "sleep_mode_in_order": SleepMode(switch="in_order"),
    # A slice of 20 ms: a prefill and a few steps.
    "sleep_mode_preempt": SleepMode(switch="preempt", slice_share=0.02),
}


@pytest.fixture(autouse=True)
def small_reserve(monkeypatch):
    """Let requests run together: what is set aside for answers suits real models, not tiny ones."""
    monkeypatch.setattr(decode, "OUTPUT_RESERVE", 96)


class Market:
    """A system on live instances that take turns in this thread; `log` holds (instance, event)."""

    def __init__(self, system, machines, requests):
        models = tuple(
            [ModelSpec(name, name, 1e6, 2, 128, 128, 4, 2, 32, 256) for name in machines[0].engines]
        )
        costs = dict.fromkeys(machines[0].engines, COST)
        lengths = {r.spec.id: r.due for r in requests if system.oracle}
        plan = Deployment(DEVICE, len(machines), 8, models, costs, Slo(1.0, 0.1), lengths=lengths)
        fleet = system.fleet(plan)
        self.dispatcher = system.dispatcher(plan, fleet)
        self.requests = {request.spec.id: request for request in requests}
        self.log = []
        self.instances = []
        for spec, machine in zip(fleet, machines, strict=True):
            scheduler = system.scheduler(plan, spec)
            self.instances.append(
                machine.instance(scheduler, self._sink(spec.id), keep_kv=spec.keep_kv)
            )

    def run(self):
        """Offer every request, a few per round, and serve until all are done."""
        coming, done, seen = list(self.requests.values()), 0, 0
        while done < len(self.requests):
            for request in coming[:3]:
                self._send(self.dispatcher.place(request.spec, Stage.FULL, 0.0), request)
            del coming[:3]
            for instance in self.instances:
                instance.run_next()
            new, seen = self.log[seen:], len(self.log)
            for where, event in new:
                if isinstance(event, Finished | Failed):
                    done += 1
                    spec = self.requests[event.request].spec
                    for placed in self.dispatcher.finished(spec, Stage.FULL, where, 0.0):
                        self._send(placed.instance, self.requests[placed.request.id])

    def of(self, kind):
        return [event for _, event in self.log if isinstance(event, kind)]

    def tokens(self):
        made = {ident: [] for ident in self.requests}
        for event in self.of(Tokens):
            made[event.request] += event.output.token_ids
        return made

    def _send(self, where, request):
        assert not isinstance(where, Refusal)
        if where is not None:
            self.instances[where].accept(request)

    def _sink(self, instance):
        return lambda events: self.log.extend((instance, event) for event in events)


@pytest.mark.parametrize("name", SYSTEMS)
def test_tokens_are_those_of_each_model_alone(name, machines, make, node):
    rng = random.Random(5)
    names = list(machines[0].engines)
    requests = [
        make(i + 1, rng.choice(names), rng.randrange(3, 120), rng.randrange(1, 60))
        for i in range(24)
    ]
    expected = {r.spec.id: machines[1].alone(r) for r in requests}
    market = Market(SYSTEMS[name], machines, requests)
    market.run()
    assert market.tokens() == expected
    assert market.of(Failed) == []
    assert max([len(event.requests) for event in market.of(Ran)]) > 1
    assert len(market.of(Switched)) >= len(names)
    # Nothing is kept for later: a device's KV is given up, or its requests are done.
    assert market.of(Moved) == []
    assert not any(engine.requests for machine in machines for engine in machine.engines.values())
    assert all(use.used == 0 for use in node.host_kv.stats().values())


def test_slices_compute_again_what_they_interrupt_and_repeat_no_token(machine, make):
    requests = [make(i, ("qwen-a", "llama", "mistral")[i % 3], 40, 60) for i in range(6)]
    expected = {r.spec.id: machine.alone(r) for r in requests}
    drained, sliced = (
        Market(SYSTEMS[name], [machine], requests) for name in ("sleep_mode", "sleep_mode_preempt")
    )
    for market in (drained, sliced):
        market.run()
        assert market.tokens() == expected

    def prefilled(market):
        return sum([len(e.requests) for e in market.of(Ran) if e.kind == "prefill"])

    assert prefilled(drained) == len(requests)
    assert prefilled(sliced) > 2 * len(requests)
    assert len(sliced.of(Switched)) > len(drained.of(Switched))
    # A prefill that computes again also gives a token, so every token is made exactly once.
    assert sum([len(e.output.token_ids) for e in sliced.of(Tokens)]) == 6 * 60
