"""MuxServe's placement: the memory rule that bounds models per GPU, meshes, and what is refused."""

import time
from dataclasses import replace

import pytest

from aegaeon.core import DecodeCost, Deployment, ModelCost, ModelSpec, PrefillCost, Slo, SwitchCost
from baselines.muxserve.placement import MemoryRule, clusters, partitions, place
from baselines.muxserve.sharing import A100_SHARING
from baselines.muxserve.throughput import describe, joint_throughput, sm_share
from profiles.catalogue import load_device, load_model

H800 = load_device("h800")
SEVEN, NINE, THIRTEEN = map(load_model, ("qwen2.5-7b", "yi-1.5-9b", "llama2-13b"))
RELAXED_RULE = MemoryRule(kv_share=0.25, activation_gb=2.0)


def cost(model: ModelSpec) -> ModelCost:
    size = model.weight_bytes / model.tp / 15.2e9
    return ModelCost(
        PrefillCost(0.01, 0.005 * size, 2.3e-5 * size, 2e-10),
        DecodeCost(8.45e-3 * size, 4.4e-8, 1e-4),
        SwitchCost(0.38, 0.01),
        weight_bytes=model.weight_bytes / model.tp,
        kv_bytes_per_token=model.kv_bytes_per_token // model.tp,
    )


def deployment(*types: ModelSpec, gpus: int = 16, rate: float = 0.1, skewed: bool = False):
    models = tuple(replace(m, name=f"model_{i:03d}") for i, m in enumerate(types))
    rates = {m.name: rate * (1 + 0.01 * i if skewed else 1) for i, m in enumerate(models)}
    costs = {m.name: cost(m) for m in models}
    return Deployment(H800, gpus, 8, models, costs, Slo(10.0, 0.1), rates)


def planned(*types: ModelSpec, rule: MemoryRule | None = None, **options):
    return place(deployment(*types, **options), rule or MemoryRule(), A100_SHARING)


@pytest.mark.parametrize(
    ("types", "rule", "most"),
    [
        ([SEVEN] * 4, MemoryRule(), 2),
        ([NINE] * 4, MemoryRule(), 2),
        ([THIRTEEN] * 4, MemoryRule(), 1),
        ([THIRTEEN, SEVEN], MemoryRule(), 1),
        ([SEVEN] * 4, RELAXED_RULE, 3),
        ([THIRTEEN, SEVEN], RELAXED_RULE, 2),
        ([SEVEN] * 4, MemoryRule(max_models=1), 1),
    ],
)
def test_models_per_gpu_follow_the_planning_constants(types, rule, most):
    plan = planned(*types, rule=rule, gpus=1)
    assert [len(unit.models) for unit in plan.units] == [most]
    assert len(plan.unplaced) == len(types) - most


def test_the_budget_of_an_80_gb_gpu_is_43_gb_for_weights_and_overheads():
    rule = MemoryRule()
    assert rule.budget(H800) == pytest.approx(43.2e9)
    market = deployment(SEVEN)
    assert rule.charge(describe(market.models[0], market)) == pytest.approx(22.83e9, rel=1e-3)


@pytest.mark.parametrize("count", [16, 32, 40, 80])
def test_sixteen_gpus_hold_at_most_32_seven_b_models(count):
    plan = planned(*[SEVEN] * count)
    assert len(plan.unplaced) == max(0, count - 32)
    assert sum(len(unit.models) for unit in plan.units) == min(count, 32)
    assert max(len(unit.models) for unit in plan.units) == (1 if count == 16 else 2)


def test_a_market_that_does_not_fit_loses_its_least_demanding_models():
    plan = planned(*[SEVEN] * 40, skewed=True)
    assert set(plan.unplaced) == {f"model_{i:03d}" for i in range(8)}


def test_the_papers_mix_fits_up_to_28_models():
    cycle = [SEVEN] * 6 + [NINE] * 2 + [THIRTEEN] * 2
    assert not planned(*(cycle * 3)[:28]).unplaced
    assert len(planned(*(cycle * 4)[:32]).unplaced) == 6


def test_kv_room_is_what_weights_and_overheads_leave():
    (unit,) = planned(SEVEN, SEVEN, gpus=1).units
    assert unit.kv_bytes == pytest.approx(72e9 - 2 * (15.231e9 + 7.6e9), rel=1e-3)


def test_a_mixed_market_gets_meshes_of_both_degrees():
    wide = replace(THIRTEEN, tp=4)
    plan = planned(wide, SEVEN, SEVEN, SEVEN, gpus=8)
    assert not plan.unplaced
    assert sorted(unit.gpus for unit in plan.units) == [1, 1, 1, 4]


def test_no_mesh_spans_nodes():
    cut = list(clusters(deployment(SEVEN, gpus=20), [1, 2, 4, 8]))
    for cluster in cut:
        for node, size in ((0, 8), (1, 8), (2, 4)):
            assert sum(gpus for gpus, home in cluster if home == node) == size
    assert len(cut) == 55 * 4


def test_partitions_of_a_node_are_muxserves():
    assert len(partitions(8, [1, 2, 4, 8])) == 10
    assert partitions(4, [1, 2, 4]) == [(4,), (2, 2), (2, 1, 1), (1, 1, 1, 1)]
    assert partitions(6, [4]) == [(4,)]
    assert partitions(2, [4]) == [()]


def test_throughput_is_bounded_by_rates_and_falls_short_when_overloaded():
    calm = [describe(m, deployment(SEVEN, SEVEN)) for m in deployment(SEVEN, SEVEN).models]
    assert joint_throughput(calm, [1.0, 1.0], 26e9) == pytest.approx(0.2)
    hot = deployment(SEVEN, SEVEN, rate=50.0)
    crowded = joint_throughput([describe(m, hot) for m in hot.models], [1.0, 1.0], 26e9)
    assert 5 < crowded < 60


def test_a_higher_rate_needs_more_sms():
    shares = [
        sm_share(describe(d.models[0], d), 26e9, A100_SHARING)
        for d in (deployment(SEVEN, rate=rate) for rate in (0.1, 14.0, 100.0))
    ]
    assert shares[0] == 0.3
    assert shares[0] <= shares[1] < shares[2] == 0.9


def test_eighty_models_are_placed_in_milliseconds():
    market = deployment(*[SEVEN] * 80, skewed=True)
    place(market, RELAXED_RULE, A100_SHARING)
    begin = time.process_time()
    place(market, RELAXED_RULE, A100_SHARING)
    assert time.process_time() - begin < 0.06
