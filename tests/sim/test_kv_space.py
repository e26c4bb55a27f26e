import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aegaeon.core import Arrival, Request
from aegaeon.policy.lifecycle import ConservationError
from aegaeon.sim.kv import KvSpace
from aegaeon.sim.track import Track
from tests.support.small_market import cost

CAPACITY = 1000
COSTS = [cost(kv_bytes_per_token=1), cost(kv_bytes_per_token=3)]


def track(ident, tokens, kind=0, last_run=0):
    made = Track(Arrival(Request(ident, "a", 0.0, tokens), 10**6), COSTS[kind])
    made.last_run = last_run
    return made


class Space(RuleBasedStateMachine):
    """Requests come, grow, leave at once or with a copy under way; every byte is counted once."""

    @initialize()
    def start(self):
        self.space = KvSpace(CAPACITY)
        self.here: dict[int, Track] = {}
        self.leaving: list[tuple[float, int]] = []
        self.now = 0.0
        self.count = 0

    @property
    def expected(self):
        return sum(t.kv_bytes for t in self.here.values()) + sum(s for _, s in self.leaving)

    @rule(tokens=st.integers(1, 400), kind=st.integers(0, 1), last_run=st.integers(0, 5))
    def admit(self, tokens, kind, last_run):
        self.count += 1
        new = track(self.count, tokens, kind, last_run)
        if self.expected + new.kv_bytes > CAPACITY:
            with pytest.raises(ConservationError):
                KvSpace(CAPACITY - self.expected).admit(new)
            return
        self.space.admit(new)
        self.here[new.request.id] = new

    @precondition(lambda self: self.here)
    @rule(data=st.data(), steps=st.integers(1, 50))
    def grow(self, data, steps):
        kind = data.draw(st.integers(0, 1))
        batch = [t for t in self.here.values() if t.cost is COSTS[kind]]
        size = steps * len(batch) * COSTS[kind].kv_bytes_per_token
        if self.expected + size <= CAPACITY:
            for member in batch:
                member.generated += steps
            self.space.grow(size)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def release(self, data):
        gone = self.here.pop(data.draw(st.sampled_from(sorted(self.here))))
        assert self.space.release(gone) == gone.kv_bytes
        assert not gone.on_device

    @precondition(lambda self: self.here)
    @rule(data=st.data(), seconds=st.integers(1, 5))
    def depart(self, data, seconds):
        gone = self.here.pop(data.draw(st.sampled_from(sorted(self.here))))
        until = max([self.now, *(u for u, _ in self.leaving)]) + seconds
        self.space.depart(gone, until)
        self.leaving.append((until, gone.kv_bytes))

    @rule(seconds=st.integers(0, 6))
    def drain(self, seconds):
        self.now += seconds
        self.space.drain(self.now)
        self.leaving = [(until, size) for until, size in self.leaving if until > self.now]

    @invariant()
    def every_byte_is_counted_once(self):
        self.space.audit()
        assert self.space.used == self.expected <= CAPACITY
        assert self.space.residents == self.here
        assert all(t.on_device for t in self.here.values())
        ends = [until for until, _ in self.leaving]
        assert self.space.next_departure() == (min(ends) if ends else None)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def choose_a_victim(self, data):
        keep = data.draw(st.sets(st.sampled_from(sorted(self.here))))
        victim = self.space.victim(keep)
        others = [t for i, t in self.here.items() if i not in keep]
        if victim is None:
            assert not others
        else:
            assert victim in others
            assert victim.last_run == max(t.last_run for t in others)


TestSpace = Space.TestCase
TestSpace.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_the_audit_notices_a_byte_too_many_or_too_few():
    for wrong in (-1, 1):
        space = KvSpace(CAPACITY)
        space.admit(track(0, 10))
        space.used += wrong
        with pytest.raises(ConservationError, match="counted"):
            space.audit()


def test_growth_above_the_capacity_is_a_bug():
    space = KvSpace(10)
    space.admit(track(0, 10))
    with pytest.raises(ConservationError, match="of 10"):
        space.grow(1)
