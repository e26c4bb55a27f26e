"""The authors' preset: cap of four, LRU workers, a drop after 15 s, KV lost to pre-emption."""

import numpy as np
import pytest

from aegaeon.core import Decode, Fail, Outcome, Prefill, Request, Stage
from baselines.serverlessllm.paper import ServerlessLLMPaper
from baselines.serverlessllm.shortest_batch import ShortestBatchFirst, ShortestBatchOptions
from tests.support.small_market import arriving, cost, deployment, simulate, token_times

COSTS = {name: cost() for name in "abcd"}
# 10 GB of weights take a second at this rate, too.
PAPER = ServerlessLLMPaper(load_gbps=10.0)
SHORTEST = ServerlessLLMPaper(load_gbps=10.0, shortest_first=True)


def plan(gpus=2):
    return deployment(COSTS, gpus, weight_slots=1)


class Workers:
    def __init__(self, system, gpus=2):
        self.policy = system.dispatcher(plan(gpus), system.fleet(plan(gpus)))
        self.requests: list[tuple[Request, int]] = []

    def place(self, model, now=0.0):
        request = Request(len(self.requests), model, now, 100)
        instance = self.policy.place(request, Stage.FULL, now)
        self.requests.append((request, instance))
        return instance

    def finish(self, ident, now):
        request, instance = self.requests[ident]
        assert self.policy.finished(request, Stage.FULL, instance, now) == ()


def test_a_worker_takes_four_of_a_model_and_the_fifth_goes_elsewhere():
    workers = Workers(PAPER)
    assert [workers.place("a") for _ in range(8)] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_finished_request_makes_room_under_the_cap():
    workers = Workers(PAPER)
    assert [workers.place("a", 5.0) for _ in range(4)] == [0] * 4
    workers.finish(0, 6.0)
    assert workers.place("a", 7.0) == 0


def test_only_the_tail_of_a_queue_can_be_extended():
    workers = Workers(PAPER, gpus=1)
    for model in "aba":
        workers.place(model)
    worker = workers.policy._workers[0]
    assert [list(run) for run in worker.runs] == [["a", 1], ["b", 1], ["a", 1]]


def test_a_new_model_goes_to_a_fresh_worker_then_to_the_least_recently_used():
    workers = Workers(PAPER, gpus=3)
    assert [workers.place(m, i) for i, m in enumerate("abc")] == [0, 1, 2]
    workers.finish(1, 10.0)
    workers.finish(0, 20.0)
    workers.finish(2, 30.0)
    assert workers.place("d", 40.0) == 1
    # It holds "b" no more: the swap began when "d" came.
    assert workers.place("b", 40.1) in (0, 1)


def test_a_worker_that_loads_its_first_model_is_no_longer_fresh():
    workers = Workers(PAPER, gpus=3)
    assert [workers.place(m, 0.0) for m in "abc"] == [0, 1, 2]


def test_a_worker_that_swaps_keeps_its_old_stamp():
    workers = Workers(PAPER)
    assert [workers.place(m, 0.0) for m in "ab"] == [0, 1]
    workers.finish(0, 5.0)
    workers.finish(1, 6.0)
    assert workers.place("c", 7.0) == 0
    # Worker 0 swaps until 8 and has not run since 5: the next model herds onto it.
    assert workers.place("d", 7.5) == 0


def test_batches_of_four_and_the_fewest_batches():
    workers = Workers(SHORTEST)
    assert [workers.place(m) for m in "aaaaab"] == [0, 0, 0, 0, 1, 0]
    assert workers.place("a") == 1
    workers.finish(5, 1.0)
    assert workers.place("c") == 0


def test_requests_unserved_for_fifteen_seconds_fail():
    arrivals = arriving(("a", 0.0, 100, 1000), ("b", 1.0, 100, 5), ("b", 10.0, 100, 5))
    result = simulate(PAPER, plan(gpus=1), arrivals)
    # "a" runs until 21.08; by then the first "b" has waited for 20 s, the second for 11 s.
    assert [t.failure is not None for t in result.requests] == [False, True, False]
    assert token_times(result)[2][0] == pytest.approx(1.1 + 999 * 0.02 + 1.1)


def test_four_run_together_and_the_fifth_waits_for_the_whole_queue_elsewhere():
    arrivals = arriving(*(("a", 0.001 * i, 100, 50) for i in range(5)))
    result = simulate(PAPER, plan(gpus=2), arrivals)
    assert len(result.switches.seconds) == 2
    assert not any(t.failure is not None for t in result.requests)


def test_a_prefill_preempts_decoding_and_the_victim_recomputes_its_kv():
    arrivals = arriving(("a", 0.0, 100, 100), ("b", 2.0, 100, 50))
    result = simulate(SHORTEST, plan(gpus=1), arrivals)
    times, victim = token_times(result), result.requests[0]
    # At 2.0 a step ends; "b" loads, prefills and decodes first, as it has less left.
    assert times[1] == pytest.approx(2.0 + 1.1 + 0.02 * np.arange(50))
    # 46 tokens made before; the 47th comes from a second prefill, not from a decode step.
    before = times[0][times[0] < 2.05]
    assert times[0][len(before)] == pytest.approx(times[1][-1] + 1.1)
    assert len(times[0]) == 100
    assert victim.prefill_s == pytest.approx(0.2)
    assert victim.first_token == pytest.approx(1.1)
    assert len(result.moves.seconds) == 0


def test_a_preempted_prefill_is_as_long_as_prompt_and_answer_so_far():
    costs = COSTS | {"a": cost(prefill_base_s=0.0, prefill_token_s=0.001)}
    arrivals = arriving(("a", 0.0, 100, 100), ("b", 2.0, 100, 50))
    victim = simulate(SHORTEST, deployment(costs, 1, weight_slots=1), arrivals).requests[0]
    assert victim.prefill_s == pytest.approx(0.1 + 0.001 * (100 + 46))


class Worker:
    """A shortest-batch-first queue whose work takes no time."""

    def __init__(self, costs=COSTS):
        self.lengths: dict[int, int] = {}
        options = ShortestBatchOptions(max_batch=4, drop_after_s=15.0)
        self.queue = ShortestBatchFirst(costs, options, self.lengths)
        self.count = 0

    def add(self, model, output=50, tokens=100, now=0.0):
        self.lengths[self.count] = output
        assert self.queue.add(Request(self.count, model, now, tokens), now)
        self.count += 1

    def run(self, steps=1, now=0.0):
        work = self.queue.next_work(now)
        if isinstance(work, Prefill | Decode):
            self.queue.record(work, Outcome(now, now, steps), now)
        return work


def test_unserved_batches_go_first_then_the_shortest_remaining():
    worker = Worker(COSTS | {"c": cost(prefill_base_s=0.5)})
    worker.add("a", output=50)
    assert isinstance(worker.run(), Prefill)
    worker.add("b", output=20)
    work = worker.run()
    assert (type(work), work.model) == (Prefill, "b")
    # "b" has 19 steps left, 0.38 s, and "c" needs a prefill of 0.5 s; "a" has lost its KV, counts
    # as a prefill of 0.1 s again and thrashes back.
    worker.add("c")
    work = worker.run()
    assert (type(work), work.model) == (Prefill, "a")


def test_a_sort_that_falls_due_during_the_switch_counts_before_its_prefill():
    worker = Worker()
    worker.queue._options = ShortestBatchOptions(4, 15.0, resort_s=0.3, traffic_gap_s=100.0)
    worker.add("a", output=500)
    worker.add("b", output=500, tokens=200)
    load = worker.queue.next_work(0.0)
    assert (type(load), load.model) == (Prefill, "a")
    # "a" is in place at 1.0, and made its first token at 1.1. Sorts fell due at 0.3, 0.6 and 0.9.
    worker.queue.record(load, Outcome(1.0, 1.1, 1), 1.1)
    work = worker.queue.next_work(1.1)
    assert (type(work), work.model, work.quota) == (Decode, "a", pytest.approx(0.2))
    worker.queue.record(work, Outcome(1.1, 1.3, 10), 1.3)
    assert worker.queue.next_work(1.3).model == "b"


def test_batches_hold_four_and_prefill_together():
    worker = Worker()
    for _ in range(5):
        worker.add("a")
    assert len(worker.run().requests) == 4


def test_the_order_of_batches_counts_what_ran_before_the_arrival():
    worker = Worker({"a": cost(), "b": cost(prefill_base_s=0.5)})
    worker.add("a", output=100)
    worker.run()
    # One decode step leaves 98 of 0.02 s; the prefill of "b" takes 0.5 s and goes first.
    worker.run()
    worker.add("b")
    assert worker.run().model == "b"
    worker = Worker({"a": cost(), "b": cost(prefill_base_s=0.5)})
    worker.add("a", output=100)
    worker.run()
    # A segment in progress when "b" comes ends with 18 steps left, 0.36 s: "a" keeps its turn.
    decode = worker.queue.next_work(0.0)
    worker.add("b")
    worker.queue.record(decode, Outcome(0.0, 1.6, 81), 1.6)
    assert worker.run().model == "a"


def test_a_decode_lasts_until_a_waiting_request_becomes_late():
    worker = Worker(COSTS | {"b": cost(prefill_base_s=9.0)})
    worker.add("a", output=10)
    worker.run()
    assert worker.queue.next_work(0.0).quota == float("inf")
    # Nine steps of "a" are shorter than the prefill of "b", which is late at 16.
    worker.add("b", now=1.0)
    work = worker.queue.next_work(3.0)
    assert (work.model, work.quota) == ("a", 13.0)
    assert worker.queue.next_work(20.0) == Fail((Request(1, "b", 1.0, 100),))
