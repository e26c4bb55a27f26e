"""Decoding requests never starve, measured on a whole run: an instance's diary is checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from aegaeon.core import GB, Decode, Deployment, InstanceSpec, Outcome, Request, Stage, Work
from aegaeon.policy.interface import Scheduler
from aegaeon.policy.system import Aegaeon
from tests.support.random_markets import SmallMarket, markets
from tests.support.small_market import LINK, arriving, cost, deployment, simulate


@dataclass
class Diary:
    """A scheduler that writes down when requests came and when work ran."""

    inner: Scheduler
    added: dict[int, tuple[float, Request]] = field(default_factory=dict)
    turns: list[tuple[Decode, Outcome]] = field(default_factory=list)

    def add(self, request: Request, now: float) -> bool:
        self.added[request.id] = now, request
        return self.inner.add(request, now)

    def next_work(self, now: float) -> Work:
        return self.inner.next_work(now)

    def record(self, work: Work, outcome: Outcome, now: float) -> None:
        assert isinstance(work, Decode)
        self.turns.append((work, outcome))
        self.inner.record(work, outcome, now)


@dataclass
class Watched(Aegaeon):
    diaries: list[Diary] = field(default_factory=list)

    def scheduler(self, deployment: Deployment, instance: InstanceSpec) -> Scheduler:
        inner = super().scheduler(deployment, instance)
        if instance.stage is Stage.PREFILL:
            return inner
        self.diaries.append(Diary(inner))
        return self.diaries[-1]


def waits(diary: Diary, ident: int) -> tuple[dict[str, float], float]:
    """Seconds of decoding per model, and of all, until the first turn of a request's batch.

    In a short turn it may miss that one: decoding begins with the first request whose KV is there.
    """
    now, _ = diary.added[ident]
    decoding: dict[str, float] = {}
    for work, outcome in diary.turns:
        if outcome.end <= now:
            continue
        if ident in {r.id for r in work.requests}:
            return decoding, outcome.start - now
        seconds = outcome.end - max(outcome.start, now)
        decoding[work.model] = decoding.get(work.model, 0.0) + seconds
    raise AssertionError(f"request {ident} never had a turn")


@settings(max_examples=40, deadline=None)
@given(market=markets(), qmax_s=st.sampled_from([0.3, 1.0, 4.0]), prefetch=st.booleans())
def test_every_batch_has_its_turn_within_two_turns_of_every_other_model(market, qmax_s, prefetch):
    # With room for all KV a model has one batch, so at most two of its turns come first.
    roomy = SmallMarket(market.costs, market.arrivals, 100 * GB)
    system = Watched(prefill=1, decode=1, qmax_s=qmax_s, prefetch=prefetch)
    simulate(system, roomy.deployment(system), roomy.arrivals)
    (diary,) = system.diaries
    tokens = sum(a.request.input_tokens + a.output_tokens for a in market.arrivals)
    turn_s = qmax_s + max(
        c.decode.step_s(len(market.requests), tokens) for c in market.costs.values()
    )
    # One request's KV leaves the prefill instance and comes in; all others' may come in before.
    kv_s = 2 * tokens * max(c.kv_bytes_per_token for c in market.costs.values()) / LINK
    switch_s = max(c.switch.host_s + c.switch.activate_s for c in market.costs.values())
    for ident in diary.added:
        decoding, wall = waits(diary, ident)
        assert all(seconds <= 2 * turn_s for seconds in decoding.values())
        assert wall <= 2 * len(market.costs) * (turn_s + switch_s) + kv_s


def test_the_bound_is_not_idle_talk():
    """A market whose last model arrives amid a round waits for more than one round's turns."""
    costs = {name: cost(switch_s=0.5) for name in "abcd"}
    rows = [(name, 0.0, 10, 900) for name in "abc"] + [("d", 4.0, 10, 10)]
    system = Watched(prefill=1, decode=1, prefetch=False)
    simulate(system, deployment(costs, weight_slots=1), arriving(*rows))
    (diary,) = system.diaries
    decoding, _ = waits(diary, 3)
    assert 8.0 < sum(decoding.values()) <= 6 * 4.02
