from dataclasses import replace

import pytest

from aegaeon.core import GB, Stage
from aegaeon.errors import UserError
from aegaeon.policy.system import Aegaeon
from tests.support.small_market import arriving, cost, deployment, model, simulate

COSTS = {"a": cost(), "b": cost(), "c": cost(), "d": cost()}


def test_every_gpu_serves_one_stage_and_prefetch_costs_a_slot_of_kv():
    plan = deployment(COSTS, gpus=16)
    fleet = Aegaeon().fleet(plan)
    assert [spec.stage for spec in fleet] == [Stage.PREFILL] * 6 + [Stage.DECODE] * 10
    assert {spec.kv_bytes for spec in fleet} == {10 * GB}
    assert {spec.weight_slots for spec in fleet} == {2}
    plain = Aegaeon(prefetch=False).fleet(plan)
    assert {(spec.kv_bytes, spec.weight_slots) for spec in plain} == {(20 * GB, 1)}


def test_tensor_parallel_groups_count_as_one_instance():
    plan = replace(deployment(COSTS, gpus=8), models=tuple(model(m, tp=4) for m in COSTS))
    assert [spec.tp for spec in Aegaeon(prefill=1, decode=1).fleet(plan)] == [4, 4]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"prefill": 3, "decode": 3}, "hardware.gpus = 4"),
        ({"prefill": 0, "decode": 4}, "at least 1"),
        ({"prefill": 4, "decode": 0}, "at least 1"),
        ({"prefill": 2, "decode": 2, "pools": 0}, "at least 1"),
        ({"prefill": 2, "decode": 2, "qmax_s": 0.0}, "qmax_s"),
        ({"prefill": 1, "decode": 3, "pools": 2}, "system.pools"),
    ],
)
def test_impossible_layouts_are_refused_by_name(options, named):
    with pytest.raises(UserError, match=named):
        Aegaeon(**options).fleet(deployment(COSTS, gpus=4))


def test_models_that_leave_no_room_for_kv_are_refused():
    plan = deployment(COSTS, gpus=4, kv_bytes=0.5 * GB)
    with pytest.raises(UserError, match="system=aegaeon_no_prefetch"):
        Aegaeon(prefill=2, decode=2).fleet(plan)
    assert Aegaeon(prefill=2, decode=2, prefetch=False).fleet(plan)


def test_mixed_parallel_degrees_and_remainders_are_refused():
    plan = deployment(COSTS, gpus=4)
    mixed = replace(plan, models=(model("a"), model("b", tp=2)))
    with pytest.raises(UserError, match="one tensor-parallel degree"):
        Aegaeon(prefill=2, decode=2).fleet(mixed)
    triples = replace(plan, models=(model("a", tp=3),))
    with pytest.raises(UserError, match="not a multiple"):
        Aegaeon(prefill=1, decode=1).fleet(triples)


def test_pools_keep_models_apart():
    plan = deployment(COSTS, gpus=4)
    arrivals = arriving(*((m, 0.01 * i, 10, 5) for i, m in enumerate("abcdabcd")))
    result = simulate(Aegaeon(prefill=2, decode=2, pools=2), plan, arrivals)
    # "a" and "c" live on instances 0 and 2, "b" and "d" on 1 and 3: two models each to load.
    assert sorted(result.switches.instance) == [0, 0, 1, 1, 2, 2, 3, 3]
