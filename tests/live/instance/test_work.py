"""A live instance does the work it is given and reports what the simulated one would."""

import threading
import time
from dataclasses import replace

import pytest

from aegaeon.core import Decode, Fail, Idle, Prefill, Stage
from aegaeon.live.events import (
    Failed,
    Finished,
    HostKv,
    Moved,
    Prefilled,
    Ran,
    Switched,
    Tokens,
)

pytest.importorskip("vllm")
pytestmark = pytest.mark.live

LONG = 1e9


def run_works(instance, count):
    return [instance.run_next() for _ in range(count)]


def test_prefill_gives_one_token_and_decode_the_rest(machine, script, events, make):
    machine.pool.activate("llama")
    requests = [make(1), make(2, n=70)]
    expected = [machine.alone(request) for request in requests]
    machine.pool.activate("llama")
    specs = tuple([request.spec for request in requests])
    script.works = [Prefill("qwen-a", specs), Decode("qwen-a", specs, LONG)]
    instance = machine.instance(script, events.extend)
    for request in requests:
        instance.accept(request)
    run_works(instance, 3)
    (_, prefill), (_, decode) = script.outcomes
    assert script.added == list(specs)
    assert (prefill.steps, prefill.finished, prefill.skipped) == (1, (), ())
    assert prefill.switch_s > 0
    assert prefill.start <= prefill.end <= decode.start < decode.end
    assert (decode.steps, decode.finished, decode.switch_s) == (11, specs, None)
    for outcome in (prefill, decode):
        assert 0 < outcome.busy_s <= outcome.end - outcome.start
    assert decode.step_s == decode.busy_s / 11
    assert [events.tokens(r.spec.id) for r in requests] == expected
    assert [e.reason for e in events.of(Finished)] == ["length", "length"]
    (switched,) = events.of(Switched)
    assert switched.model == "qwen-a"
    assert switched.nbytes > 0
    assert [(e.kind, e.steps, e.requests) for e in events.of(Ran)] == [
        ("prefill", 1, (1, 2)),
        ("decode", 11, (1, 2)),
    ]


def test_tokens_are_timed_when_their_step_ends(machine, script, events, make):
    request = make(1)
    script.works = [Prefill("qwen-a", (request.spec,)), Decode("qwen-a", (request.spec,), LONG)]
    instance = machine.instance(script, events.extend)
    instance.accept(request)
    run_works(instance, 2)
    times = [e.time for e in events.of(Tokens)]
    assert len(times) == 12
    assert times == sorted(times)
    (_, prefill), (_, decode) = script.outcomes
    assert prefill.start < times[0] <= prefill.end
    assert decode.start < times[1]
    assert times[-1] <= decode.end


def test_a_quota_ends_a_turn_and_only_the_batch_runs(machine, script, events, make):
    a, b = make(1, out=200), make(2, out=200)
    both = (a.spec, b.spec)
    script.works = [Prefill("qwen-a", both), Decode("qwen-a", (a.spec,), 0.02)]
    instance = machine.instance(script, events.extend)
    instance.accept(a)
    instance.accept(b)
    run_works(instance, 2)
    _, outcome = script.outcomes[1]
    assert outcome.steps >= 1
    assert 0.02 <= outcome.end - outcome.start < 0.5
    assert len(events.tokens(1)) == 1 + outcome.steps
    assert len(events.tokens(2)) == 1
    instance.cancel(1)
    instance.cancel(2)
    instance.run_next()


def test_a_turn_ends_when_a_request_finishes(machine, script, events, make):
    a, b = make(1, out=4), make(2, out=9)
    both = (a.spec, b.spec)
    script.works = [
        Prefill("qwen-a", both),
        Decode("qwen-a", both, LONG),
        Decode("qwen-a", (b.spec,), LONG),
    ]
    instance = machine.instance(script, events.extend)
    instance.accept(a)
    instance.accept(b)
    run_works(instance, 3)
    assert [(o.steps, o.finished) for _, o in script.outcomes] == [
        (1, ()),
        (3, (a.spec,)),
        (5, (b.spec,)),
    ]


def test_an_arrival_cuts_a_turn_if_the_scheduler_asks(machine, script, events, make):
    a, late = make(1, out=200), make(2)

    def sink(batch):
        events.extend(batch)
        if len(events.tokens(1)) > 3 and not script.added[1:]:
            instance.accept(late)

    script.works = [Prefill("qwen-a", (a.spec,)), Decode("qwen-a", (a.spec,), LONG)]
    instance = machine.instance(script, sink)
    instance._outbox._flush_s = 0.0
    instance.accept(a)
    instance.run_next()
    script.cut = True
    instance.run_next()
    _, outcome = script.outcomes[1]
    assert 1 <= outcome.steps < 30
    assert outcome.finished == outcome.skipped == ()
    instance.cancel(1)
    instance.cancel(2)
    instance.run_next()


def test_the_scheduler_hears_of_a_cancelled_request_between_two_works(
    machine, script, events, make
):
    a, b, c = make(1, out=200), make(2, out=200), make(3)
    both = (a.spec, b.spec)

    def sink(batch):
        events.extend(batch)
        if len(events.tokens(1)) == 5:
            instance.cancel(1)

    script.works = [
        Prefill("qwen-a", both),
        Decode("qwen-a", both, LONG),
        Decode("qwen-a", (b.spec,), 0.0),
    ]
    instance = machine.instance(script, sink)
    instance._outbox._flush_s = 0.0
    for request in (a, b, c):
        instance.accept(request)
    run_works(instance, 2)
    _, outcome = script.outcomes[1]
    assert (outcome.finished, outcome.skipped) == ((), ())
    assert 4 <= outcome.steps < 30
    assert script.cancelled == []
    instance.cancel(3)
    instance.cancel(99)
    instance.run_next()
    assert script.cancelled == [a.spec, c.spec]
    _, third = script.outcomes[2]
    assert (third.steps, third.finished) == (1, ())
    instance.cancel(2)
    instance.run_next()
    assert script.cancelled == [a.spec, c.spec, b.spec]
    assert [(e.request, e.reason) for e in events.of(Finished)] == [
        (1, "abort"),
        (3, "abort"),
        (2, "abort"),
    ]
    assert not machine.engines["qwen-a"].requests


def test_what_a_policy_gives_up_fails(machine, script, events, make):
    request = make(1)
    script.works = [Fail((request.spec,))]
    instance = machine.instance(script, events.extend)
    instance.accept(request)
    instance.run_next()
    (failed,) = events.of(Failed)
    assert failed.request == 1
    assert script.outcomes == []
    assert not machine.engines["qwen-a"].requests


def test_a_request_that_no_engine_takes_fails_alone(machine, script, events, make, node):
    instance = machine.instance(script, events.extend)
    kept = [HostKv(20, 4096, (tuple(node.host_kv.alloc(4096, 3)),)) for _ in range(2)]
    instance.accept(replace(make(1, n=400), kv=kept[0]))
    instance.accept(replace(make(2, model="nobody"), kv=kept[1]))
    instance.run_next()
    first, second = events.of(Failed)
    assert "maximum context length" in first.reason
    assert "no engine of model nobody" in second.reason
    assert script.added == []
    assert node.host_kv.stats()[4096].used == 0


def test_a_batch_that_outgrows_the_arena_is_reported_as_skipped(machine, script, events, make):
    requests = [make(i, model="mistral", n=90, out=30) for i in range(1, 9)]
    expected = [machine.alone(request) for request in requests]
    specs = [request.spec for request in requests]
    instance = machine.instance(script, events.extend)
    for request in requests:
        instance.accept(request)
    script.works = [Prefill("mistral", (spec,)) for spec in specs]
    run_works(instance, 8)
    skipped = 0
    while specs:
        script.works = [Decode("mistral", tuple(specs), LONG)]
        instance.run_next()
        _, outcome = script.outcomes[-1]
        assert outcome.steps >= 1
        skipped += len(outcome.skipped)
        specs = [spec for spec in specs if spec not in outcome.finished]
    assert skipped > 0
    assert [events.tokens(request.spec.id) for request in requests] == expected


@pytest.mark.parametrize("options", [{"keep_kv": False}, {"lazy_eviction": False}])
def test_other_ways_to_treat_the_cache_at_a_switch(machine, script, events, make, options):
    a, b = make(1), make(2, model="qwen-b")
    expected = [machine.alone(a), machine.alone(b)]
    instance = machine.instance(script, events.extend, **options)
    instance.accept(a)
    instance.accept(b)
    script.works = [Prefill("qwen-a", (a.spec,)), Prefill("qwen-b", (b.spec,))]
    again = Prefill if options.get("keep_kv") is False else None
    for _ in range(3):
        for r in (a, b):
            work = again(r.spec.model, (r.spec,)) if again else None
            script.works.append(work or Decode(r.spec.model, (r.spec,), 0.0))
    run_works(instance, len(script.works))
    script.works = [Decode(r.spec.model, (r.spec,), LONG) for r in (a, b)]
    run_works(instance, 2)
    assert [events.tokens(1), events.tokens(2)] == expected
    back = sum([move.in_bytes for move in events.of(Moved)])
    assert (back > 0) == (options.get("lazy_eviction") is False)


def test_a_full_host_pool_costs_computing_again_and_nothing_else(crowded, script, events, make):
    names = list(crowded.engines)
    requests = [make(i, names[i % 2], n=100, out=30) for i in range(12)]
    expected = [crowded.alone(request) for request in requests]
    instance = crowded.instance(script, events.extend)
    for request in requests:
        instance.accept(request)
    left = {r.spec.id: r.spec for r in requests}
    steps = []
    for engine in crowded.engines.values():
        engine.step = noting(engine.step, steps)
    works = [Prefill, Decode]
    while left:
        for name in names:
            mine = tuple([spec for spec in left.values() if spec.model == name])
            if mine:
                script.works = [works[0](name, mine, *((0.005,) if works[0] is Decode else ()))]
                instance.run_next()
                for spec in script.outcomes[-1][1].finished:
                    del left[spec.id]
        works = works[-1:]
    assert [events.tokens(r.spec.id) for r in requests] == expected
    assert events.of(Failed) == []
    # Some KV went to the host and came back; what had no room there was computed again.
    assert sum([move.in_bytes for move in events.of(Moved)]) > 0
    once = sum([len(r.prompt) + r.due - 1 for r in requests])
    assert sum([step.computed for step in steps]) > once
    assert all(use.used == 0 for use in crowded.pool.store._pool.stats().values())


def noting(step, steps):
    def noted(batch):
        steps.append(step(batch))
        return steps[-1]

    return noted


def test_a_prefetched_model_is_switched_to_by_view(machine, script, events, make):
    a, b = make(1), make(2, model="qwen-b")
    machine.pool.activate("llama")
    machine.pool.activate("mistral")
    instance = machine.instance(script, events.extend)
    instance.accept(a)
    instance.accept(b)
    script.works = [
        Prefill("qwen-a", (a.spec,), prefetch="qwen-b"),
        Prefill("qwen-b", (b.spec,), prefetch="nobody"),
    ]
    run_works(instance, 2)
    assert [e.prefetched for e in events.of(Switched)] == [False, True]
    instance.cancel(1)
    instance.cancel(2)
    instance.run_next()


def test_a_prefill_instance_hands_over_and_finishes_short_requests(machine, script, events, make):
    a, short = make(1), make(2, out=1)
    instance = machine.instance(script, events.extend, stage=Stage.PREFILL)
    instance.accept(a)
    instance.accept(short)
    script.works = [Prefill("qwen-a", (a.spec, short.spec))]
    instance.run_next()
    (moved,) = events.of(Prefilled)
    assert moved.request.generated == tuple(events.tokens(1))
    assert moved.request.kv.tokens == 20
    machine.pool.store.discard(moved.request.kv)
    assert [e.request for e in events.of(Finished)] == [2]
    _, outcome = script.outcomes[0]
    assert outcome.finished == (short.spec,)


def test_the_loop_sleeps_until_something_comes_and_stops(machine, script, events, make):
    instance = machine.instance(script, events.extend)
    thread = threading.Thread(target=instance.run)
    thread.start()
    request = make(1, out=3)
    script.works = [Prefill("qwen-a", (request.spec,)), Decode("qwen-a", (request.spec,), LONG)]
    instance.accept(request)
    deadline = time.monotonic() + 20
    while not events.of(Finished) and time.monotonic() < deadline:
        time.sleep(0.005)
    instance.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert len(events.tokens(1)) == 3


def test_an_idle_scheduler_is_asked_again_when_it_said(machine, script, events):
    asked = []

    class Later:
        def next_work(self, now):
            asked.append(now)
            if len(asked) == 3:
                instance.stop()
            return Idle(now + 0.03)

    instance = machine.instance(Later(), events.extend)
    instance.run()
    assert len(asked) == 3
    assert asked[2] - asked[0] >= 0.06
