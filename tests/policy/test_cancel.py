"""A request that its user took back leaves nothing in any scheduler, whenever that happens."""

import dataclasses
from collections.abc import Collection, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegaeon.core import GB, Fail, Idle, Outcome, Prefill, Request, Stage
from aegaeon.policy.system import Aegaeon
from baselines.muxserve.system import MuxServe
from baselines.serverlessllm.ours import ServerlessLLM
from baselines.serverlessllm.paper import ServerlessLLMPaper
from tests.support.small_market import cost, deployment

COSTS = {name: cost() for name in "abc"}
PLAN = dataclasses.replace(
    deployment(COSTS, gpus=2, kv_bytes=3 * GB), lengths=dict.fromkeys(range(60), 40)
)
KINDS = [
    (Aegaeon(prefill=1, decode=1), Stage.PREFILL),
    (Aegaeon(prefill=1, decode=1, accumulative=False, prefetch=False), Stage.PREFILL),
    (Aegaeon(prefill=1, decode=1), Stage.DECODE),
    (ServerlessLLM(), Stage.FULL),
    (ServerlessLLMPaper(), Stage.FULL),
    (ServerlessLLMPaper(shortest_first=True), Stage.FULL),
    (MuxServe(), Stage.FULL),
]
NAMES = [f"{system.name}-{stage.value}-{i}" for i, (system, stage) in enumerate(KINDS)]


def scheduler(system, stage):
    spec = next(spec for spec in system.fleet(PLAN) if spec.stage is stage)
    return system.scheduler(PLAN, spec), spec.models or tuple(COSTS)


def requests_in(thing, seen=None) -> set[int]:
    """Return the ids of all requests that can be reached from an object."""
    seen = set() if seen is None else seen
    if isinstance(thing, Request):
        return {thing.id}
    if id(thing) in seen or isinstance(thing, str | bytes | int | float | None):
        return set()
    seen.add(id(thing))
    if isinstance(thing, Mapping):
        parts = [*thing.keys(), *thing.values()]
    elif isinstance(thing, Collection):
        parts = list(thing)
    elif dataclasses.is_dataclass(thing):
        parts = [getattr(thing, f.name) for f in dataclasses.fields(thing)]
    else:
        parts = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
    return {found for part in parts for found in requests_in(part, seen)}


class Instance:
    """Does what its scheduler says, a piece of work at a time; generates what it likes."""

    def __init__(self, system, stage):
        self.scheduler, self.models = scheduler(system, stage)
        self.stage = stage
        self.here: dict[int, Request] = {}
        self.count = 0
        self.now = 0.0

    def add(self, model, tokens):
        request = Request(self.count, self.models[model % len(self.models)], self.now, tokens)
        self.count += 1
        self.here[request.id] = request
        self.scheduler.add(request, self.now)

    def cancel(self, which):
        if self.here:
            request = self.here.pop(sorted(self.here)[which % len(self.here)])
            self.scheduler.cancel(request, self.now)
            assert request.id not in requests_in(self.scheduler)

    def work(self, done, skip, steps):
        work = self.scheduler.next_work(self.now)
        if isinstance(work, Idle):
            return
        if isinstance(work, Fail):
            for request in work.requests:
                del self.here[request.id]
            return
        batch = list(work.requests)
        assert {request.id for request in batch} <= self.here.keys()
        skipped = batch[len(batch) - min(skip, len(batch) - 1) :]
        if isinstance(work, Prefill):
            skipped, steps = [], 1
        ran = [request for request in batch if request not in skipped]
        # A request may end before the length it was expected to have.
        ended = ran if self.stage is Stage.PREFILL else ran[: min(done, len(ran))]
        begin, self.now = self.now, self.now + 0.1
        outcome = Outcome(begin, self.now, steps, tuple(ended), tuple(skipped))
        if self.stage is Stage.PREFILL:
            outcome = outcome._replace(finished=())
        for request in ended:
            del self.here[request.id]
        self.scheduler.record(work, outcome, self.now)


ACTIONS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 2), st.integers(1, 900)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("work"), st.integers(0, 2), st.integers(0, 2), st.integers(1, 30)),
)


@pytest.mark.parametrize(("system", "stage"), KINDS, ids=NAMES)
@given(actions=st.lists(ACTIONS, max_size=40))
@settings(max_examples=40, deadline=None)
def test_nothing_of_a_cancelled_request_remains(system, stage, actions):
    instance = Instance(system, stage)
    for name, *arguments in actions:
        getattr(instance, name)(*arguments)
        left = requests_in(instance.scheduler)
        if stage is not Stage.PREFILL:
            assert left == instance.here.keys()
    while instance.here:
        instance.cancel(0)
    assert requests_in(instance.scheduler) == set()
    assert isinstance(instance.scheduler.next_work(instance.now), Idle)


@given(actions=st.lists(ACTIONS, max_size=60))
@settings(max_examples=40, deadline=None)
def test_a_decoding_batch_knows_its_length_whatever_leaves_it(actions):
    instance = Instance(Aegaeon(prefill=1, decode=1), Stage.DECODE)
    scheduler, lengths = instance.scheduler, {}
    record = scheduler.record

    def note(work, outcome, now):
        for request in work.requests:
            if request not in outcome.skipped:
                lengths[request.id] = lengths.get(request.id, 1) + outcome.steps
        record(work, outcome, now)

    scheduler.record = note
    for name, *arguments in actions:
        getattr(instance, name)(*arguments)
        for batch in [b for batches in scheduler._work_list.values() for b in batches]:
            members = batch.requests.values()
            context = sum(r.input_tokens + lengths.get(r.id, 1) for r in members)
            assert batch.context == context
            assert batch.behind.keys() == batch.requests.keys()


def test_kv_that_a_cancelled_request_had_reserved_is_free_again():
    instance = Instance(MuxServe(), Stage.FULL)
    instance.add(0, 100)
    instance.work(0, 0, 1)
    quotas, model = instance.scheduler._quotas, instance.models[0]
    assert quotas._accounts[model].reserved > 0
    instance.cancel(0)
    assert quotas._accounts[model].reserved == 0


def test_a_cut_group_makes_room_for_another_request():
    scheduler = Aegaeon(prefill=1, decode=1, max_group=2).scheduler(
        PLAN, Aegaeon(prefill=1, decode=1).fleet(PLAN)[0]
    )
    a, b, c = [Request(i, "a", 0.0, 5) for i in range(3)]
    for request in (a, b):
        scheduler.add(request, 0.0)
    scheduler.cancel(a, 0.0)
    scheduler.add(c, 0.0)
    assert [group.size for group in scheduler._queue.groups] == [2]
