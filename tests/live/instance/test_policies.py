"""Aegaeon's own policies on live instances: prefill, hand-off, decoding rounds; and a soak."""

import os
import random
import time

import pytest

from aegaeon.core import (
    Decode,
    DecodeCost,
    Idle,
    ModelCost,
    Prefill,
    PrefillCost,
    Stage,
    SwitchCost,
)
from aegaeon.live.events import Failed, Finished, Prefilled, Ran, Switched, Tokens
from aegaeon.policy.decode import DecodeScheduler, RoundOptions
from aegaeon.policy.prefill import PrefillScheduler

pytest.importorskip("vllm")
pytestmark = pytest.mark.live

COST = ModelCost(
    PrefillCost(0.0, 1e-3, 1e-5, 0.0), DecodeCost(2e-3, 0.0, 0.0), SwitchCost(2e-3, 5e-4), 1e6, 1024
)


def random_requests(rng, make, names, count):
    return [
        make(i + 1, rng.choice(names), rng.randrange(3, 120), rng.randrange(1, 40))
        for i in range(count)
    ]


def test_prefill_and_decode_instances_under_algorithms_1_and_2(machines, make, node):
    first, second = machines
    names = list(first.engines)
    requests = random_requests(random.Random(3), make, names, 32)
    expected = {r.spec.id: second.alone(r) for r in requests}
    log: list[object] = []
    options = RoundOptions(tbt_s=0.02, qmax_s=0.02, alpha_floor=0.5, prefetch=True)
    costs = dict.fromkeys(names, COST)
    prefill = first.instance(PrefillScheduler(8, True, True), log.extend, Stage.PREFILL)
    decode = second.instance(DecodeScheduler(costs, 1 << 20, options), log.extend, Stage.DECODE)
    for request in requests:
        prefill.accept(request)
    seen, done = 0, 0
    while done < len(requests):
        prefill.run_next()
        decode.run_next()
        for event in log[seen:]:
            if isinstance(event, Prefilled):
                decode.accept(event.request)
            done += isinstance(event, Finished | Failed)
        seen = len(log)
    got: dict[int, list[int]] = {}
    for event in log:
        if isinstance(event, Tokens):
            got.setdefault(event.request, []).extend(event.output.token_ids)
    assert got == expected
    switches = [event for event in log if isinstance(event, Switched)]
    assert len(switches) > 15
    assert any(event.prefetched for event in switches)
    assert not [event for event in log if isinstance(event, Failed)]
    ran = [e for e in log if isinstance(e, Ran) and e.kind == "decode"]
    assert all(e.busy_s + e.data_s <= e.lead_s + e.end - e.start + 1e-9 for e in ran)
    assert all(use.used == 0 for use in node.host_kv.stats().values())


class RandomScheduler:
    """Any model, any subset of its requests, any quota, any hint: every legal order of work."""

    def __init__(self, rng, names):
        self._rng = rng
        self._names = names
        self._fresh = {}
        self._running = {}

    def add(self, request, now):
        self._fresh[request.id] = request
        return self._rng.random() < 0.5

    def next_work(self, now):
        rng = self._rng
        hint = rng.choice([None, *self._names])
        pools = [p for p in (self._fresh, self._running) if p]
        if not pools:
            return Idle()
        chosen = rng.choice(pools)
        model = rng.choice(list(chosen.values())).model
        mine = [r for r in chosen.values() if r.model == model]
        batch = tuple(rng.sample(mine, rng.randrange(1, len(mine) + 1)))
        if chosen is self._fresh:
            return Prefill(model, batch, hint)
        return Decode(model, batch, rng.choice([0.0, 0.002, 0.01]), hint)

    def record(self, work, outcome, now):
        ran = [r for r in work.requests if r not in outcome.skipped]
        for request in ran:
            self._fresh.pop(request.id, None)
            self._running[request.id] = request
        for request in outcome.finished:
            self.cancel(request, now)

    def cancel(self, request, now):
        self._fresh.pop(request.id, None)
        self._running.pop(request.id, None)


def soak(machine, make, seed, count=24):
    """Run random requests in a random order with random cancellations; check every token."""
    rng = random.Random(seed)
    names = list(machine.engines)
    requests = random_requests(rng, make, names, count)
    expected = {r.spec.id: machine.alone(r) for r in requests}
    log: list[object] = []
    instance = machine.instance(RandomScheduler(rng, names), log.extend)
    coming, cancelled, done, seen = list(requests), set(), 0, 0
    while done < count:
        for _ in range(min(len(coming), rng.randrange(0, 3))):
            instance.accept(coming.pop())
        if rng.random() < 0.02:
            ident = rng.randrange(1, count + 1)
            cancelled.add(ident)
            instance.cancel(ident)
        instance.run_next()
        done += sum([isinstance(event, Finished) for event in log[seen:]])
        seen = len(log)
    instance.run_next()
    got: dict[int, list[int]] = {ident: [] for ident in expected}
    for event in log:
        if isinstance(event, Tokens):
            got[event.request].extend(event.output.token_ids)
    for ident, tokens in got.items():
        wanted = expected[ident]
        assert tokens == (wanted[: len(tokens)] if ident in cancelled else wanted), (seed, ident)
    assert not any(engine.requests for engine in machine.engines.values())
    return sum([isinstance(event, Switched) for event in log])


def test_soak(machine, make, node):
    """Set AEGAEON_SOAK_S to go on for so many seconds; the seed of a failure is in its message."""
    budget = float(os.environ.get("AEGAEON_SOAK_S", "4"))
    began, seed, switches = time.monotonic(), 0, 0
    while seed == 0 or time.monotonic() - began < budget:
        switches += soak(machine, make, seed)
        assert all(use.used == 0 for use in node.host_kv.stats().values()), seed
        seed += 1
    print(f"{seed} schedules, {switches} switches")
    assert switches > 20
