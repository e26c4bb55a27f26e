"""The shared instance: token times, KV and SM bookkeeping, whatever the scheduler asks for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegaeon.core import (
    Arrival,
    DecodeCost,
    Deployment,
    DeviceSpec,
    Idle,
    InstanceSpec,
    ModelCost,
    Prefill,
    PrefillCost,
    Request,
    SharingModel,
    Slo,
    Stage,
    SwitchCost,
)
from aegaeon.policy.lifecycle import ConservationError
from aegaeon.runlog import RunLog
from aegaeon.sim.kv import GRANT_TOKENS, KvGrants
from aegaeon.sim.simulator import Simulator
from aegaeon.sim.track import Track
from baselines.continuous_batching import ContinuousBatching
from baselines.muxserve.adbs import Adbs
from baselines.muxserve.quotas import KvQuotas
from baselines.muxserve.system import ByPlacement

COST = ModelCost(
    PrefillCost(0.01, 0.005, 2.3e-5, 2e-10),
    DecodeCost(8.45e-3, 4.4e-8, 1e-4),
    SwitchCost(0.38, 0.01),
    weight_bytes=15.2e9,
    kv_bytes_per_token=57344,
)
DEVICE = DeviceSpec("test", 80e9, 3.35e12, 9.89e14, 64e9)
SHARING = SharingModel(prefill_sm=0.62, decode_sm=0.2, decode_bandwidth=0.68)
TURNS = SharingModel(prefill_sm=1.0, decode_sm=1.0, decode_bandwidth=1.0)
NAMES = ("a", "b", "c")


@dataclass(frozen=True)
class OneUnit:
    """One GPU that holds `models`; without a sharing model it is an ordinary, unshared instance."""

    models: tuple[str, ...] = NAMES
    kv_tokens: int = 200_000
    sharing: SharingModel | None = SHARING
    name: str = "one-unit"

    def fleet(self, deployment):
        kv = self.kv_tokens * COST.kv_bytes_per_token
        models = self.models if self.sharing else ()
        return (InstanceSpec(0, Stage.FULL, DEVICE, kv, 40e9, models=models, sharing=self.sharing),)

    def dispatcher(self, deployment, fleet):
        return ByPlacement(self.name, (replace(fleet[0], models=self.models),))

    def scheduler(self, deployment, instance):
        if self.sharing is None:
            return ContinuousBatching(4096)
        quotas = KvQuotas(instance.kv_bytes, dict.fromkeys(self.models, 1.0), True)
        return Adbs(dict.fromkeys(self.models, COST.kv_bytes_per_token), quotas, 100.0)


def run(system, arrivals: Sequence[Arrival], stepwise: bool = False) -> RunLog:
    costs = dict.fromkeys(NAMES, COST)
    free = replace(COST, switch=replace(COST.switch, host_s=0.0))
    if system.sharing is None:
        costs = dict.fromkeys(NAMES, free)
    deployment = Deployment(DEVICE, 1, 8, (), costs, Slo(10.0, 0.1))
    return Simulator(
        system, deployment, system.fleet(deployment), arrivals, stepwise=stepwise
    ).run()


def arrival(i: int, model: str, at: float, read: int, write: int) -> Arrival:
    return Arrival(Request(i, model, at, read), write)


def token_times(done: RunLog) -> list[np.ndarray]:
    parts = []
    for _, _, tokens, times in done.timelines.chunks(len(done.requests)):
        parts += np.split(times, np.cumsum(tokens)[:-1])
    return parts


@st.composite
def workloads(draw, span: float = 6.0, longest: int = 600):
    count = draw(st.integers(1, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    arrivals = np.sort(rng.uniform(0, span, count))
    return [
        arrival(i, NAMES[rng.integers(3)], float(t), *map(int, rng.integers(1, longest, 2)))
        for i, t in enumerate(arrivals)
    ]


@settings(max_examples=25, deadline=None)
@given(workloads(), st.sampled_from([1300, 3000, 200_000]))
def test_stepwise_gives_the_same_token_times_even_when_kv_runs_out(requests, kv_tokens):
    system = OneUnit(kv_tokens=kv_tokens)
    fast, slow = run(system, requests), run(system, requests, stepwise=True)
    for ours, theirs in zip(token_times(fast), token_times(slow), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(workloads(span=0.5), st.integers(1201, 4000))
def test_every_token_is_made_once_and_in_order_however_little_kv_there_is(requests, kv_tokens):
    done = run(OneUnit(kv_tokens=kv_tokens), requests)
    for told, times in zip(done.requests, token_times(done), strict=True):
        assert len(times) == told.output_tokens
        assert times[0] == pytest.approx(told.first_token)
        assert times[-1] == pytest.approx(told.finish)
        assert told.request.arrival < times[0]
        assert (np.diff(times) > 0).all()


def test_kv_shortage_really_makes_requests_lose_their_kv():
    requests = [arrival(i, NAMES[i % 3], 0.001 * i, 100, 500) for i in range(6)]
    ample, short = run(OneUnit(), requests), run(OneUnit(kv_tokens=1000), requests)
    assert max(t.finish for t in short.requests) > 1.5 * max(t.finish for t in ample.requests)


def test_a_model_alone_is_as_fast_as_without_sharing():
    requests = [arrival(i, "a", 5.0 * i, 700 - 50 * i, 300 + i) for i in range(5)]
    shared, alone = run(OneUnit(("a",)), requests), run(OneUnit(("a",), sharing=None), requests)
    for ours, theirs in zip(token_times(shared), token_times(alone), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def test_two_saturated_models_gain_over_taking_turns_what_muxserve_measured():
    requests = [arrival(i, NAMES[i % 2], 0.0, 300, 400) for i in range(64)]
    models = ("a", "b")
    spatial = max(t.finish for t in run(OneUnit(models), requests).requests)
    turns = max(t.finish for t in run(OneUnit(models, sharing=TURNS), requests).requests)
    assert 1.35 < turns / spatial < 1.55


def test_models_that_decode_together_slow_one_another_down_and_recover():
    lone = [arrival(0, "a", 0.0, 100, 400)]
    pair = [*lone, arrival(1, "b", 1.0, 100, 100)]
    alone, (ours, other) = token_times(run(OneUnit(), lone))[0], token_times(run(OneUnit(), pair))
    gaps = np.diff(ours)
    together = (ours[1:] > other[1] + 0.05) & (ours[1:] < other[-1])
    assert gaps[together].mean() == pytest.approx(1.36 * np.diff(alone)[together].mean(), rel=0.01)
    apart = ours[1:] > other[-1] + 0.05
    np.testing.assert_allclose(gaps[apart], np.diff(alone)[apart], rtol=1e-9)


def test_the_same_requests_give_the_same_run():
    rng = np.random.default_rng(3)
    requests = [
        arrival(i, NAMES[i % 3], float(t), 300, 200)
        for i, t in enumerate(np.sort(rng.uniform(0, 5, 40)))
    ]
    first, second = run(OneUnit(), requests), run(OneUnit(), requests)
    assert first.events == second.events
    assert [t.finish for t in first.requests] == [t.finish for t in second.requests]


class Greedy:
    """A faulty scheduler: every piece of work gets all SMs."""

    def __init__(self):
        self._waiting = []

    def add(self, request, now):
        self._waiting.append(request)
        return False

    def next_work(self, now):
        if not self._waiting:
            return Idle()
        request = self._waiting.pop()
        return Prefill(request.model, (request,))

    def record(self, work, outcome, now):
        raise AssertionError("nothing may complete")


def test_shares_beyond_the_device_are_an_error():
    class System(OneUnit):
        def scheduler(self, deployment, instance):
            return Greedy()

    requests = [arrival(0, "a", 0.0, 100, 1), arrival(1, "b", 0.001, 100, 1)]
    with pytest.raises(ConservationError, match="SM shares"):
        run(System(), requests)


def test_resident_models_need_a_sharing_model():
    class System(OneUnit):
        def fleet(self, deployment):
            return (replace(super().fleet(deployment)[0], sharing=None),)

    with pytest.raises(ValueError, match="sharing"):
        run(System(), [])


@given(st.lists(st.floats(0.05, 1.0), min_size=1, max_size=6))
def test_decodes_together_never_use_more_than_the_bandwidth(shares):
    used = [SHARING.decode_bandwidth / SHARING.decode_slowdown(share, shares) for share in shares]
    assert sum(used) <= 1 + 1e-9
    assert all(SHARING.decode_slowdown(share, shares) >= 1 for share in shares)


def test_work_with_the_whole_device_is_not_slowed():
    assert SHARING.decode_slowdown(1.0, (1.0,)) == 1.0
    assert SHARING.prefill_slowdown(1.0) == 1.0


def test_grants_hand_out_the_last_token_and_no_more():
    kv = KvGrants(GRANT_TOKENS * COST.kv_bytes_per_token + 3)
    first = Track(arrival(0, "a", 0.0, GRANT_TOKENS - 1, 9), COST)
    second = Track(arrival(1, "a", 0.0, 1, 9), COST)
    assert kv.ask(first)
    assert kv.spare(first) == 1
    assert not kv.ask(second)
    with pytest.raises(ConservationError):
        kv.audit()
    kv.release(first)
    assert kv.ask(second)
    kv.release(second)
    kv.audit()
