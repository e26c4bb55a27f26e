import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegaeon.core import Decode, Idle, Outcome, Request, Work
from aegaeon.policy.decode import OUTPUT_RESERVE, DecodeScheduler, RoundOptions, kv_need
from aegaeon.policy.quota import decode_quotas
from tests.support.small_market import cost

QMAX = 4.0
COSTS = {
    "a": cost(decode_base_s=0.02, switch_s=1.0),
    "b": cost(decode_base_s=0.04, switch_s=2.0),
    "c": cost(decode_base_s=0.01, switch_s=3.0),
    "d": cost(decode_base_s=0.05, decode_context_s=1e-6, decode_request_s=0.001, switch_s=0.5),
}


class Engine:
    """An obedient decoding instance: every step takes what the cost model says."""

    def __init__(self, kv_bytes=1e12, prefetch=True, qmax_s=QMAX):
        self.scheduler = DecodeScheduler(COSTS, kv_bytes, RoundOptions(0.1, qmax_s, 0.5, prefetch))
        self.now = 0.0
        self.generated: dict[int, int] = {}
        self.due: dict[int, int] = {}
        self._next = 0

    def add(self, model: str, output: int = 10**6, tokens: int = 100) -> tuple[Request, bool]:
        request = Request(self._next, model, self.now, tokens)
        self._next += 1
        self.generated[request.id], self.due[request.id] = 1, output
        return request, self.scheduler.add(request, self.now)

    def run(self, seconds: float = float("inf")) -> Work:
        """Carry out the next work, until its quota, `seconds` or a request's end."""
        work = self.scheduler.next_work(self.now)
        if isinstance(work, Decode):
            limit, elapsed, steps = min(seconds, work.quota), 0.0, 0
            left = min(self.due[r.id] - self.generated[r.id] for r in work.requests)
            while steps < left and (not steps or elapsed < limit - 1e-9):
                elapsed += self.step_s(work)
                steps += 1
                for request in work.requests:
                    self.generated[request.id] += 1
            finished = [r for r in work.requests if self.generated[r.id] == self.due[r.id]]
            outcome = Outcome(self.now, self.now + elapsed, steps, tuple(finished))
            self.now += elapsed
            self.scheduler.record(work, outcome, self.now)
        return work

    def step_s(self, work: Decode) -> float:
        context = sum(r.input_tokens + self.generated[r.id] for r in work.requests)
        return COSTS[work.model].decode.step_s(len(work.requests), context)

    def turns(self, count: int) -> str:
        return "".join(self.run().model for _ in range(count))


def test_rounds_repeat_in_order():
    engine = Engine()
    for model in "abc":
        engine.add(model)
    assert engine.turns(9) == "abcabcabc"


def test_quotas_are_those_of_the_round_with_every_models_switch():
    engine = Engine()
    for model in "abc":
        engine.add(model)
    steps = [COSTS[m].decode.step_s(1, 101) for m in "abc"]
    expected = decode_quotas(steps, 6.0, 0.1, QMAX).quotas
    assert [engine.run().quota for _ in range(3)] == pytest.approx(expected)


def test_one_model_alone_switches_never_and_gets_qmax():
    engine = Engine()
    engine.add("a")
    assert [engine.run().quota for _ in range(3)] == pytest.approx([QMAX] * 3)


def test_batches_of_one_model_are_adjacent_and_share_one_switch():
    engine = Engine(kv_bytes=(kv_need(Request(0, "a", 0, 100)) + 1) * 1e6)
    for model in "aba":
        engine.add(model)
    works = [engine.run() for _ in range(6)]
    assert [w.model for w in works] == list("aabaab")
    assert [w.requests[0].id for w in works] == [0, 2, 1, 0, 2, 1]
    expected = decode_quotas([0.02, 0.02, 0.04], 3.0, 0.1, QMAX).quotas
    assert [w.quota for w in works[:3]] == pytest.approx(expected)


def test_a_new_batch_waits_for_the_next_round():
    engine = Engine()
    engine.add("a")
    engine.add("b")
    assert engine.turns(1) == "a"
    engine.add("c")
    assert engine.turns(5) == "babca"


def test_a_request_that_joins_the_running_batch_asks_for_a_cut_and_shares_the_turn():
    engine = Engine()
    first, _ = engine.add("a")
    engine.add("b")
    whole = engine.run(seconds=1.0).quota
    second, cut = engine.add("a")
    assert cut
    work = engine.run()
    assert work.requests == (first, second)
    assert work.quota == pytest.approx(whole - 1.0)
    assert engine.turns(1) == "b"


def test_a_request_that_joins_a_waiting_batch_asks_for_no_cut():
    engine = Engine()
    engine.add("a")
    waiting, _ = engine.add("b")
    engine.run(seconds=1.0)
    joined, cut = engine.add("b")
    assert not cut
    assert engine.turns(1) == "a"
    assert engine.run().requests == (waiting, joined)


def test_a_cut_is_asked_for_only_when_the_model_to_prefetch_changes():
    engine = Engine()
    engine.add("a")
    assert engine.run(seconds=1.0).prefetch is None
    assert engine.add("b")[1]
    assert engine.run(seconds=1.0).prefetch == "b"
    assert not engine.add("c")[1]
    assert engine.run(seconds=1.0).prefetch == "b"


def test_without_prefetch_there_are_neither_hints_nor_cuts():
    engine = Engine(prefetch=False)
    engine.add("a")
    assert engine.run(seconds=1.0).prefetch is None
    assert not engine.add("b")[1]
    assert engine.run().prefetch is None


def test_hints_name_the_next_turn_across_the_end_of_a_round():
    engine = Engine()
    for model in "abc":
        engine.add(model)
    assert [engine.run().prefetch for _ in range(6)] == list("bcabca")


def test_a_batch_that_finishes_gives_up_its_turn():
    engine = Engine()
    engine.add("a", output=11)
    engine.add("b")
    early, quota = engine.run(), decode_quotas([0.02, 0.04], 3.0, 0.1, QMAX).quotas[1]
    assert engine.now == pytest.approx(0.2)
    assert early.quota > 0.2
    following = engine.run()
    assert following.model == "b"
    assert following.quota == pytest.approx(quota)
    assert engine.turns(2) == "bb"


def test_the_rest_of_a_batch_keeps_the_turn_when_one_request_finishes():
    engine = Engine()
    engine.add("a", output=11)
    other, _ = engine.add("a")
    engine.add("b")
    quota = engine.run().quota
    work = engine.run()
    assert work.requests == (other,)
    assert work.quota == pytest.approx(quota - 0.2)


def test_a_step_longer_than_the_quota_is_a_whole_turn():
    engine = Engine(qmax_s=0.001)
    engine.add("a")
    engine.add("b")
    assert engine.turns(4) == "abab"
    assert engine.now == pytest.approx(2 * (0.02 + 0.04))


def test_kv_memory_limits_a_batch_and_one_request_always_fits():
    room = 3 * (100 + OUTPUT_RESERVE)
    engine = Engine(kv_bytes=room * 1e6)
    for _ in range(4):
        engine.add("a")
    engine.add("a", tokens=4000)
    assert [len(engine.run().requests) for _ in range(3)] == [3, 1, 1]


def test_room_left_by_a_finished_request_is_taken_again():
    engine = Engine(kv_bytes=2 * (100 + OUTPUT_RESERVE) * 1e6)
    engine.add("a", output=11)
    engine.add("a")
    engine.run()
    engine.add("a")
    assert len(engine.run().requests) == 2


def test_without_work_it_is_idle_again_and_again():
    engine = Engine()
    assert engine.run() == Idle()
    engine.add("a", output=2)
    engine.run()
    assert engine.run() == Idle()


PRESENT = st.lists(st.sampled_from("abcd"), min_size=1, max_size=8)
OUTPUTS = st.lists(st.integers(2, 1000), min_size=9, max_size=9)
ROOM = st.integers(1, 3)


def crowded(present: list[str], outputs: list[int], room: int) -> Engine:
    """An engine whose batches hold `room` requests, with the requests of `present` added."""
    engine = Engine(kv_bytes=room * (100 + OUTPUT_RESERVE) * 1e6)
    for model, output in zip(present, outputs, strict=False):
        engine.add(model, output)
    return engine


def batches_of(present: list[str], room: int) -> list[tuple[str, int]]:
    """Model and size of every batch, in the order of a round."""
    return [
        (model, min(room, present.count(model) - begin))
        for model in dict.fromkeys(present)
        for begin in range(0, present.count(model), room)
    ]


@given(present=PRESENT, outputs=OUTPUTS, room=ROOM)
def test_every_batch_of_a_round_gets_its_turn_within_the_round(present, outputs, room):
    engine, batches = crowded(present, outputs, room), batches_of(present, room)
    steps = [COSTS[model].decode.step_s(size, 101 * size) for model, size in batches]
    switch_s = sum(COSTS[m].switch.host_s for m in set(present)) if len(set(present)) > 1 else 0.0
    quotas = decode_quotas(steps, switch_s, 0.1, QMAX).quotas
    slack = sum(COSTS[m].decode.step_s(size, 1101 * size) for m, size in batches)
    waiting = set(range(len(present)))
    while waiting:
        begin = engine.now
        served = {r.id for r in engine.run().requests}
        if served & waiting:
            assert begin <= sum(quotas) + slack
        waiting -= served
    assert max(quotas) <= QMAX * (1 + 1e-9)


@given(
    present=PRESENT,
    outputs=OUTPUTS,
    room=ROOM,
    late=st.sampled_from("abcd"),
    moment=st.tuples(st.integers(0, 10), st.floats(0.0, QMAX)),
)
def test_a_late_request_gets_a_turn_within_the_following_round(
    present, outputs, room, late, moment
):
    engine = crowded(present, outputs, room)
    for _ in range(moment[0]):
        engine.run()
    engine.run(seconds=moment[1])
    begin, ident = engine.now, engine.add(late, outputs[-1])[0].id
    step_s = COSTS["d"].decode.step_s(room, 1101 * room)
    while True:
        start, work = engine.now, engine.run()
        if any(r.id == ident for r in work.requests):
            break
    # Before it come at most the rest of this round and all of the next round's other turns.
    assert start - begin <= 2 * len(batches_of(present, room)) * (QMAX + step_s)
