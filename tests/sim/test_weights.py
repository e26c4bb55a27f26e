import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aegaeon.sim.weights import HostLink

BANDWIDTH = 100.0
SIZE = st.integers(1, 500)
SECONDS = st.integers(1, 50).map(lambda tenths: tenths / 10)


def test_weights_queue_behind_kv_already_asked_for():
    link = HostLink(BANDWIDTH)
    assert link.move_in(0.0, 50) == 0.5
    assert link.copy_weights(0.0, 2.0) == 2.5


def test_kv_overtakes_weights_and_delays_them_by_its_own_time():
    link = HostLink(BANDWIDTH)
    link.copy_weights(0.0, 2.0)
    assert link.move_in(1.0, 50) == 1.5
    assert link.weights_ready == 2.5
    assert link.move_in(3.0, 50) == 3.5
    assert link.weights_ready == 2.5


def test_kv_does_not_overtake_awaited_weights():
    link = HostLink(BANDWIDTH)
    link.copy_weights(0.0, 2.0)
    assert link.await_weights(1.0) == 2.0
    assert link.move_in(1.0, 50) == 2.5
    assert link.weights_ready == 2.0
    assert link.await_weights(5.0) == 5.0


def test_the_directions_do_not_disturb_each_other():
    link = HostLink(BANDWIDTH)
    link.copy_weights(0.0, 2.0)
    assert link.move_out(1.0, 50) == 1.5
    assert link.move_out(1.0, 50) == 2.0
    assert link.move_in(1.0, 50) == 1.5
    assert link.weights_ready == 2.5


class Link(RuleBasedStateMachine):
    """The link never carries more towards the device than its bandwidth allows."""

    @initialize()
    def start(self):
        self.link = HostLink(BANDWIDTH)
        self.now = 0.0
        self.weights = (0.0, 0.0)
        self.moved: list[tuple[float, float]] = []

    @rule(seconds=SECONDS)
    def wait(self, seconds):
        self.now += seconds

    @rule(seconds=SECONDS)
    def prefetch(self, seconds):
        assert self.link.copy_weights(self.now, seconds) >= self.now + seconds
        self.weights = (self.now, seconds)
        self.moved.clear()

    @rule()
    def need(self):
        self.ready = self.link.await_weights(self.now)
        assert self.ready >= self.now
        assert self.ready >= self.link.weights_ready

    @rule(size=SIZE)
    def load(self, size):
        done = self.link.move_in(self.now, size)
        assert done >= self.now + size / BANDWIDTH - 1e-9
        self.moved.append((self.now, done))

    @invariant()
    def one_copy_at_a_time(self):
        begin, seconds = self.weights
        busy = sum(done - max(asked, previous) for (asked, done), previous in self._ordered())
        ends = max([self.link.weights_ready, *(done for _, done in self.moved)])
        assert ends >= begin + seconds - 1e-9
        if self.moved:
            assert ends - begin >= busy - 1e-9

    def _ordered(self):
        previous = 0.0
        for asked, done in self.moved:
            yield (asked, done), previous
            previous = done


TestLink = Link.TestCase
TestLink.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("size", [1, 1000])
def test_moves_in_are_first_come_first_served(size):
    link = HostLink(BANDWIDTH)
    assert link.move_in(0.0, size) < link.move_in(0.0, 1)
