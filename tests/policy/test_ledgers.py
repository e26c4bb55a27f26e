"""The dispatchers' ledgers and the schedulers' queues tell the same story on any schedule."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aegaeon.core import Decode, Idle, Outcome, Prefill, Request, Stage
from aegaeon.policy.decode import OUTPUT_RESERVE, DecodeDispatcher, kv_need
from aegaeon.policy.prefill import PrefillDispatcher
from aegaeon.policy.system import Aegaeon
from tests.support.small_market import cost, deployment

COSTS = {
    "a": cost(prefill_token_s=1e-3, switch_s=0.7),
    "b": cost(prefill_base_s=0.03, switch_s=1.3, kv_bytes_per_token=2_000_000),
    "c": cost(prefill_token_sq_s=1e-7, switch_s=0.1),
}
MODELS = st.sampled_from(sorted(COSTS))
INSTANCES = st.integers(0, 1)
PLAN = deployment(COSTS, gpus=4, kv_bytes=2.6 * (100 + OUTPUT_RESERVE) * 1e6)
SYSTEM = Aegaeon(prefill=2, decode=2, max_group=3)
FLEET = SYSTEM.fleet(PLAN)


def execution_s(request: Request) -> float:
    return COSTS[request.model].prefill.seconds(request.input_tokens, request.input_tokens**2)


class PrefillLedger(RuleBasedStateMachine):
    """Requests arrive and are prefilled at random; instances run independently."""

    def __init__(self):
        super().__init__()
        self.dispatcher = PrefillDispatcher(FLEET[:2], COSTS, max_group=3)
        self.schedulers = [SYSTEM.scheduler(PLAN, spec) for spec in FLEET[:2]]
        self.running: list[Prefill | None] = [None, None]
        self.count = 0

    @rule(model=MODELS, tokens=st.integers(1, 2000))
    def arrive(self, model, tokens):
        request = Request(self.count, model, 0.0, tokens)
        self.count += 1
        open_at = [i for i in (0, 1) if self.schedulers[i]._queue.joins(model)]
        instance = self.dispatcher.place(request, Stage.PREFILL, 0.0)
        assert instance in open_at or not open_at
        self.schedulers[instance].add(request, 0.0)
        if self.running[instance] is None:
            self.choose(instance)

    @rule(instance=INSTANCES)
    def complete(self, instance):
        work = self.running[instance]
        if work is None:
            return
        (request,) = work.requests
        self.schedulers[instance].record(work, Outcome(0.0, 0.1, 1), 0.1)
        self.dispatcher.finished(request, Stage.PREFILL, instance, 0.1)
        self.choose(instance)

    def choose(self, instance):
        work = self.schedulers[instance].next_work(0.0)
        self.running[instance] = work if isinstance(work, Prefill) else None

    @invariant()
    def loads_are_what_is_left_to_execute(self):
        for instance in (0, 1):
            groups = self.schedulers[instance]._queue.groups
            left = [r for g in groups for r in g.waiting]
            work = self.running[instance]
            left += [] if work is None else list(work.requests)
            load = sum(map(execution_s, left)) + sum(COSTS[g.model].switch.host_s for g in groups)
            assert self.dispatcher._ledgers[instance].load == pytest.approx(load)

    @invariant()
    def groups_agree_and_respect_the_limit(self):
        for instance in (0, 1):
            ledger = self.dispatcher._ledgers[instance]
            told = {m: [g.joined for g in groups] for m, groups in ledger.groups.items()}
            kept: dict[str, list[int]] = {}
            for group in self.schedulers[instance]._queue.groups:
                kept.setdefault(group.model, []).append(group.size)
                assert group.size <= 3
            assert told == kept

    def teardown(self):
        for instance in (0, 1):
            while self.running[instance] is not None:
                self.complete(instance)
            assert self.dispatcher._ledgers[instance].load == 0.0


class DecodeLedger(RuleBasedStateMachine):
    """Prefilled requests arrive, decode in turns, are skipped and finish at random."""

    def __init__(self):
        super().__init__()
        self.dispatcher = DecodeDispatcher(FLEET[2:], COSTS)
        self.schedulers = {spec.id: SYSTEM.scheduler(PLAN, spec) for spec in FLEET[2:]}
        self.generated: dict[int, int] = {}
        self.due: dict[int, int] = {}
        self.now = 0.0

    @rule(model=MODELS, tokens=st.integers(1, 300), output=st.integers(2, 40))
    def arrive(self, model, tokens, output):
        request = Request(len(self.generated), model, 0.0, tokens)
        self.generated[request.id], self.due[request.id] = 1, output
        instance = self.dispatcher.place(request, Stage.DECODE, self.now)
        self.schedulers[instance].add(request, self.now)

    @rule(instance=INSTANCES, steps=st.integers(1, 30), skip=st.integers(0, 2))
    def decode(self, instance, steps, skip):
        instance = FLEET[2 + instance].id
        work = self.schedulers[instance].next_work(self.now)
        if isinstance(work, Idle):
            return
        ran = work.requests[: max(1, len(work.requests) - skip)]
        steps = min(steps, *(self.due[r.id] - self.generated[r.id] for r in ran))
        for request in ran:
            self.generated[request.id] += steps
        finished = tuple(r for r in ran if self.generated[r.id] == self.due[r.id])
        begin, self.now = self.now, self.now + 0.1 * steps
        outcome = Outcome(begin, self.now, steps, finished, work.requests[len(ran) :])
        self.schedulers[instance].record(work, outcome, self.now)
        for request in finished:
            assert self.dispatcher.finished(request, Stage.DECODE, instance, self.now) == ()

    @invariant()
    def batches_agree(self):
        for instance, scheduler in self.schedulers.items():
            ledger = self.dispatcher._ledgers[instance]
            told = {m: [set(b.requests) for b in bs] for m, bs in ledger.batches.items()}
            kept = {m: [set(b.requests) for b in bs] for m, bs in scheduler._work_list.items()}
            assert told == kept
            assert ledger.size == sum(map(len, kept.values()))

    @invariant()
    def batches_fit_and_know_their_lengths(self):
        for scheduler in self.schedulers.values():
            for batch in (b for batches in scheduler._work_list.values() for b in batches):
                members = batch.requests.values()
                assert batch.reserved == sum(map(kv_need, members))
                assert batch.reserved <= batch.capacity or len(members) == 1
                context = sum(r.input_tokens + self.generated[r.id] for r in members)
                assert batch.context == context

    @precondition(lambda self: self.generated)
    @rule()
    def drain(self):
        for instance in (0, 1):
            while isinstance(self.schedulers[FLEET[2 + instance].id].next_work(self.now), Decode):
                self.decode(instance, 40, 0)
        for ledger in self.dispatcher._ledgers.values():
            assert (ledger.size, ledger.batches) == (0, {})


QUICK = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestPrefillLedger = PrefillLedger.TestCase
TestDecodeLedger = DecodeLedger.TestCase
TestPrefillLedger.settings = TestDecodeLedger.settings = QUICK


def test_a_decode_joins_the_first_batch_with_room_else_the_shortest_list():
    policy = DecodeDispatcher(FLEET[2:], COSTS)

    def place(ident, model):
        request = Request(ident, model, 0.0, 100)
        return policy.place(request, Stage.DECODE, 0.0), request

    first, second = FLEET[2].id, FLEET[3].id
    placed = [place(i, model) for i, model in enumerate("abcaaab")]
    # Two of "a" fit a batch; the third finds one batch on the second instance, two on the first.
    assert [instance for instance, _ in placed] == [
        *(first, second, first, first, second, second, first)
    ]
    policy.finished(placed[3][1], Stage.DECODE, first, 1.0)
    assert place(7, "a")[0] == first
