from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegaeon.core import GB, Decode, Idle, Outcome, Prefill, Request, Stage
from aegaeon.errors import UserError
from aegaeon.policy.decode import OUTPUT_RESERVE
from aegaeon.policy.interface import Placement, Refusal
from baselines.continuous_batching import ContinuousBatching
from baselines.serverlessllm.ours import GlobalQueue, ServerlessLLM
from tests.support.small_market import arriving, cost, deployment, simulate, token_times

COSTS = {name: cost() for name in "abcd"}


class Pool:
    """A global queue over `gpus` GPUs and who is where."""

    def __init__(self, gpus=2, kv_bytes=10 * GB, **options):
        system = ServerlessLLM(**options)
        self.lengths: dict[int, int] = {}
        plan = deployment(COSTS, gpus, kv_bytes, weight_slots=1)
        if system.oracle:
            plan = replace(plan, lengths=self.lengths)
        self.queue = system.dispatcher(plan, system.fleet(plan))
        assert isinstance(self.queue, GlobalQueue)
        self.where: dict[int, int] = {}
        self.held: dict[int, Request] = {}
        self.all: list[Request] = []

    def arrive(self, model, now=0.0, tokens=100, output=50):
        request = Request(len(self.all), model, now, tokens)
        self.lengths[request.id] = output
        self.all.append(request)
        answer = self.queue.place(request, Stage.FULL, now)
        if answer is None:
            self.held[request.id] = request
        else:
            self.where[request.id] = answer
        return answer

    def finish(self, ident, now=1.0):
        placed = self.queue.finished(self.all[ident], Stage.FULL, self.where.pop(ident), now)
        for placement in placed:
            del self.held[placement.request.id]
            if isinstance(placement.instance, int):
                self.where[placement.request.id] = placement.instance
        return [(p.request.id, p.instance) for p in placed]

    def models(self, gpu):
        return {self.all[i].model for i, g in self.where.items() if g == gpu}


def test_a_request_joins_the_gpu_that_serves_its_model():
    pool = Pool(gpus=3)
    assert [pool.arrive(m) for m in "abba"] == [0, 1, 1, 0]


def test_an_idle_gpu_that_holds_the_model_comes_before_the_longest_idle_one():
    pool = Pool(gpus=3)
    assert [pool.arrive(m) for m in "abc"] == [0, 1, 2]
    for ident in (1, 0, 2):
        assert pool.finish(ident) == []
    assert pool.arrive("c") == 2
    assert pool.arrive("d") == 1
    assert pool.arrive("b") == 0


def test_a_gpu_that_falls_idle_serves_the_head_of_the_queue_and_its_models_others():
    pool = Pool(gpus=1)
    assert [pool.arrive(m, now=i) for i, m in enumerate("abcbc")] == [0, None, None, None, None]
    assert pool.finish(0) == [(1, 0), (3, 0)]
    assert pool.finish(1) == []
    assert pool.finish(3) == [(2, 0), (4, 0)]


def test_a_busy_gpu_takes_its_models_requests_past_the_queue():
    pool = Pool(gpus=1)
    assert [pool.arrive(m) for m in "aba"] == [0, None, 0]


def test_shortest_first_takes_the_least_predicted_work_in_the_queue_and_in_a_model():
    pool = Pool(gpus=1, shortest_first=True, max_batch=1)
    pool.arrive("a")
    for model, output in (("b", 500), ("c", 90), ("c", 40), ("b", 300), ("d", 60)):
        assert pool.arrive(model, output=output) is None
    order = []
    running = 0
    while placed := pool.finish(running):
        ((running, _),) = placed
        order.append(running)
    assert order == [3, 5, 2, 4, 1]


def test_first_come_first_served_keeps_the_order_of_arrival():
    pool = Pool(gpus=1, max_batch=1)
    pool.arrive("a")
    for i, output in enumerate((500, 90, 40, 300, 60)):
        assert pool.arrive("bcdbc"[i], now=float(i), output=output) is None
    running, order = 0, []
    while placed := pool.finish(running):
        ((running, _),) = placed
        order.append(running)
    assert order == [1, 2, 3, 4, 5]


def test_kv_memory_or_max_batch_limits_a_gpu():
    by_memory = Pool(gpus=1, kv_bytes=3 * (100 + OUTPUT_RESERVE) * 1e6)
    assert [by_memory.arrive("a") for _ in range(5)] == [0, 0, 0, None, None]
    assert by_memory.finish(1) == [(3, 0)]
    by_count = Pool(gpus=1, max_batch=2)
    assert [by_count.arrive("a") for _ in range(4)] == [0, 0, None, None]
    assert by_count.finish(0) == [(2, 0)]


def test_a_full_gpus_model_goes_to_a_second_gpu():
    pool = Pool(gpus=2, max_batch=2)
    assert [pool.arrive("a") for _ in range(5)] == [0, 0, 1, 1, None]
    pool.finish(2)
    assert pool.arrive("a") is None or pool.where[4] == 1


def test_late_requests_are_refused_when_another_finishes():
    pool = Pool(gpus=1, drop_after_s=5.0, max_batch=1)
    pool.arrive("a", now=0.0)
    pool.arrive("b", now=1.0)
    pool.arrive("c", now=2.0)
    assert pool.finish(0, now=6.5) == [(1, Refusal("unserved after 5 s")), (2, 0)]


def test_negative_options_are_refused():
    with pytest.raises(UserError, match="max_batch"):
        ServerlessLLM(max_batch=-1).fleet(deployment(COSTS, weight_slots=1))


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abcd"), st.integers(1, 900), st.integers(1, 400)),
        st.integers(0, 100),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(events=EVENTS, shortest=st.booleans(), max_batch=st.integers(0, 3))
def test_no_gpu_idles_while_a_request_waits_and_everybody_is_served(events, shortest, max_batch):
    pool = Pool(gpus=3, kv_bytes=2e9, shortest_first=shortest, max_batch=max_batch)
    for now, event in enumerate(events):
        if isinstance(event, tuple):
            model, tokens, output = event
            pool.arrive(model, float(now), tokens, output)
        elif pool.where:
            running = sorted(pool.where)
            pool.finish(running[event % len(running)], float(now))
        used = set(pool.where.values())
        assert not pool.held or used == {0, 1, 2}
        for gpu in used:
            mine = [pool.all[i] for i, g in pool.where.items() if g == gpu]
            assert len({r.model for r in mine}) == 1
            assert not max_batch or len(mine) <= max_batch
            reserved = sum(r.input_tokens + OUTPUT_RESERVE for r in mine) * 1e6
            assert reserved <= 2e9 or len(mine) == 1
    while pool.where:
        pool.finish(min(pool.where), 1e3)
    assert not pool.held


def test_placements_name_the_request_and_the_gpu():
    pool = Pool(gpus=1)
    pool.arrive("a")
    pool.arrive("b")
    assert pool.queue.finished(pool.all[0], Stage.FULL, 0, 1.0) == [Placement(pool.all[1], 0)]


def batching(*rows, **options):
    scheduler = ContinuousBatching(**options)
    for i, (model, arrival, tokens) in enumerate(rows):
        scheduler.add(Request(i, model, arrival, tokens), arrival)
    return scheduler


def ids(work):
    return [r.id for r in work.requests]


def test_prompts_go_first_up_to_the_token_budget():
    scheduler = batching(*[("a", 0.0, 400)] * 3, token_budget=1000)
    first = scheduler.next_work(0.0)
    assert isinstance(first, Prefill)
    assert ids(first) == [0, 1]
    scheduler.record(first, Outcome(0.0, 0.1, 1), 0.1)
    second = scheduler.next_work(0.1)
    assert isinstance(second, Prefill)
    assert ids(second) == [2]
    scheduler.record(second, Outcome(0.1, 0.2, 1), 0.2)
    third = scheduler.next_work(0.2)
    assert isinstance(third, Decode)
    assert ids(third) == [0, 1, 2]
    # A new prompt of the model interrupts decoding.
    assert scheduler.add(Request(9, "a", 0.3, 400), 0.3)


def test_a_prompt_above_the_budget_runs_alone():
    assert ids(batching(("a", 0.0, 5000), ("a", 0.0, 1), token_budget=1000).next_work(0.0)) == [0]


def test_another_model_waits_for_the_running_requests():
    scheduler = batching(("a", 0.0, 10), ("b", 0.0, 10), ("a", 0.0, 10))
    work = scheduler.next_work(0.0)
    assert ids(work) == [0]
    scheduler.record(work, Outcome(0.0, 0.1, 1), 0.1)
    decode = scheduler.next_work(0.1)
    assert isinstance(decode, Decode)
    assert ids(decode) == [0]
    scheduler.record(decode, Outcome(0.1, 0.2, 4, finished=decode.requests), 0.2)
    assert ids(scheduler.next_work(0.2)) == [1]


def test_prompts_that_found_no_room_are_next():
    scheduler = batching(*[("a", 0.0, 10)] * 3)
    work = scheduler.next_work(0.0)
    scheduler.record(work, Outcome(0.0, 0.1, 1, skipped=work.requests[1:]), 0.1)
    assert ids(scheduler.next_work(0.1)) == [1, 2]
    assert batching().next_work(0.0) == Idle()


def test_first_tokens_of_waiting_models_come_only_when_a_gpu_is_free():
    """Head-of-line blocking: the third model waits for a whole request (paper figure 2)."""
    arrivals = arriving(("a", 0.0, 100, 100), ("b", 0.0, 100, 300), ("c", 0.1, 100, 5))
    result = simulate(ServerlessLLM(), deployment(COSTS, weight_slots=1), arrivals)
    times = token_times(result)
    assert times[0][-1] == pytest.approx(1.1 + 99 * 0.02)
    assert times[2][0] == pytest.approx(times[0][-1] + 1.1)
