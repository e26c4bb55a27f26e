"""MuxServe as a whole in the simulator, and where its sharing coefficients come from."""

import json
import statistics
import time
from dataclasses import replace

import numpy as np
import pytest

from aegaeon.core import (
    Arrival,
    DecodeCost,
    Deployment,
    DeviceSpec,
    ModelCost,
    ModelSpec,
    PrefillCost,
    Request,
    Slo,
    SwitchCost,
)
from aegaeon.errors import UserError
from aegaeon.policy.interface import Refusal
from aegaeon.scoring.score import score_run
from baselines.muxserve import MuxServe
from baselines.muxserve.sharing import A100_SHARING
from tests.support.small_market import simulate

DEVICE = DeviceSpec("test", 80e9, 3.35e12, 9.89e14, 64e9)
MODEL = ModelSpec("7b", "7b", 7.6e9, 28, 3584, 18944, 28, 4, 128, 32768)
COST = ModelCost(
    PrefillCost(0.01, 0.005, 2.3e-5, 2e-10),
    DecodeCost(8.45e-3, 4.4e-8, 1e-4),
    SwitchCost(0.38, 0.01),
    15.2e9,
    57344,
)


def deployment(count: int, rate: float = 0.1, slo: Slo | None = None) -> Deployment:
    models = tuple(replace(MODEL, name=f"model_{i:03d}") for i in range(count))
    costs = {m.name: COST for m in models}
    rates = {m.name: rate for m in models}
    return Deployment(DEVICE, 16, 8, models, costs, slo or Slo(10.0, 0.1), rates)


def workload(count: int, rate: float = 0.1, duration: float = 120.0) -> list[Arrival]:
    rng = np.random.default_rng(7)
    total = rng.poisson(count * rate * duration)
    arrivals = np.sort(rng.uniform(0, duration, total))
    inputs = rng.lognormal(6.0, 1.0, total).astype(int) + 1
    outputs = rng.lognormal(5.3, 0.9, total).astype(int) + 1
    names = rng.integers(count, size=total)
    return [
        Arrival(Request(i, f"model_{m:03d}", float(t), int(min(a, 8000))), int(min(b, 2000)))
        for i, (t, m, a, b) in enumerate(zip(arrivals, names, inputs, outputs, strict=True))
    ]


def attainment(done, slo: Slo) -> float:
    wanted = sum(told.output_tokens for told in done.requests)
    return float(score_run(done, slo).on_time.sum()) / wanted


@pytest.mark.parametrize(
    ("count", "rate", "scale"), [(16, 0.1, 1.0), (32, 0.1, 1.0), (32, 0.5, 1.0), (32, 0.1, 0.2)]
)
def test_what_is_placed_is_served_in_time(count, rate, scale):
    slo = Slo(10.0 * scale, 0.1 * scale)
    market = deployment(count, rate, slo)
    done = simulate(MuxServe(), market, workload(count, rate, duration=40.0))
    assert not done.refusals
    assert attainment(done, slo) > 0.99


def test_models_without_a_placement_are_refused_and_count_as_late():
    arrivals = workload(40)
    market = deployment(40)
    done = simulate(MuxServe(), market, arrivals)
    placed = {model for spec in done.fleet for model in spec.models}
    refused = [a for a in arrivals if a.request.model not in placed]
    assert len(placed) == 32
    assert len(done.refusals) == 8
    assert sum(done.refusals.values()) == len(refused)
    assert sum(told.failure is not None for told in done.requests) == len(refused)
    assert all(reason.startswith("muxserve: no placement for model_") for reason in done.refusals)
    served = sum(a.output_tokens for a in arrivals if a.request.model in placed)
    share = served / sum(a.output_tokens for a in arrivals)
    assert attainment(done, market.slo) == pytest.approx(share, abs=0.005)
    due = sum(told.output_tokens for told in done.requests if told.failure is None)
    assert done.timelines.count.sum() == due


def test_relaxed_constants_hold_three_models_per_gpu():
    fleet = MuxServe(kv_share=0.25, activation_gb=2.0).fleet(deployment(60))
    assert max(len(spec.models) for spec in fleet) == 3
    assert sum(len(spec.models) for spec in fleet) == 48


def test_every_model_has_one_home():
    system, market = MuxServe(), deployment(33)
    fleet = system.fleet(market)
    dispatcher = system.dispatcher(market, fleet)
    homes = [
        dispatcher.place(Request(i, m.name, 0.0, 1), fleet[0].stage, 0.0)
        for i, m in enumerate(market.models)
    ]
    assert sum(isinstance(home, Refusal) for home in homes) == 1
    for model, home in zip(market.models, homes, strict=True):
        if not isinstance(home, Refusal):
            assert model.name in fleet[home].models


def test_no_model_at_all_is_the_users_error():
    with pytest.raises(UserError, match="kv_share"):
        MuxServe(kv_share=0.9).fleet(deployment(2))


def test_a_point_of_figure_11a_takes_a_fraction_of_a_second():
    arrivals = workload(32)
    begin = time.process_time()
    simulate(MuxServe(), deployment(32), arrivals)
    assert time.process_time() - begin < 0.5


def test_the_bandwidth_coefficient_is_muxserves_median_gain_over_turns(shared_data):
    gains = []
    for load in (2, 4, 6, 8, 11):
        runs = {
            kind: json.loads(
                (shared_data / "muxserve_chatlmsys" / f"avgrate{load}_{kind}.json").read_text()
            )
            for kind in ("flexsm", "temporal")
        }
        gains.append(runs["flexsm"]["throughput"] / runs["temporal"]["throughput"])
    assert 1 / statistics.median(gains) == pytest.approx(A100_SHARING.decode_bandwidth, abs=0.01)
