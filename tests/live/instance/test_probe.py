"""Measuring an instance: every kind of sample, none impossible, and nothing left behind."""

# ruff: noqa: E402

from dataclasses import replace

import pytest

from aegaeon.core import (
    DecodeCost,
    DeviceSpec,
    InstanceSpec,
    ModelCost,
    ModelSpec,
    PrefillCost,
    Stage,
    SwitchCost,
)

pytest.importorskip("vllm")
pytestmark = pytest.mark.live

from aegaeon.live.measure.calibrate import estimate, longest, of_stage, quick, warm_up
from aegaeon.live.measure.probe import DECODE_STEPS, Point, Probe, Round, Sample

KV_BYTES = 1 << 20
COST = ModelCost(
    PrefillCost(0.0, 1.0, 1.0, 0.0), DecodeCost(1.0, 1.0, 1.0), SwitchCost(7.0, 6.0), 1e6, 1024
)
SPEC = ModelSpec("m", "tiny-qwen2", 3e5, 2, 128, 128, 4, 2, 32, max_len=256, dtype_bytes=4)


def instance(ident, stage, device):
    return InstanceSpec(ident, stage, device, KV_BYTES, 1e9, weight_slots=2)


@pytest.fixture
def device():
    return DeviceSpec("cpu", 1e9, 1e9, 1e9, 1e9)


def samples(ident, prefill=0.01, decode=0.002):
    """Samples of one instance whose prefill of n tokens takes `prefill` and a millisecond each."""
    return [
        Sample("prefill", "prefill", "m", 10, 1, prefill + 0.010),
        Sample("prefill", "prefill", "m", 110, 1, prefill + 0.110),
        Sample("prefill", "prefill", "m", 10, 4, 9.0),
        Sample("decode", "decode", "m", 15, 1, decode + 0.001),
        Sample("decode", "decode", "m", 15, 4, decode + 0.004),
        Sample("decode", "decode", "m", 115, 1, 9.0),
        Sample("slot", "decode", "m", 16, 1, 0.0005 * (1 + ident)),
    ]


def test_prefill_counts_where_prompts_run_and_decoding_where_answers_do(device):
    fleet = (instance(0, Stage.PREFILL, device), instance(1, Stage.DECODE, device))
    measured = {0: samples(0, decode=5.0), 1: samples(1, prefill=5.0)}
    (cost,) = estimate(measured, fleet, {"m": COST}).values()
    assert cost.prefill.seconds(50, 0) == pytest.approx(0.060)
    assert cost.decode.step_s(3, 0) == pytest.approx(0.005)
    # Nobody saw weights come from the host.
    assert (cost.switch.host_s, cost.switch.activate_s) == (7.0, 0.00075)


def test_instances_of_one_stage_are_averaged(device):
    fleet = tuple([instance(i, Stage.FULL, device) for i in (0, 1)])
    measured = {0: samples(0, prefill=0.01), 1: samples(1, prefill=0.03)}
    assert len(of_stage(measured, fleet, Stage.DECODE)) == 2
    (cost,) = estimate(measured, fleet, {"m": COST}).values()
    assert cost.prefill.seconds(0, 0) == pytest.approx(0.02)


def test_rounds_stay_within_a_models_limit():
    for spec in (SPEC, replace(SPEC, max_len=DECODE_STEPS + 4)):
        for round_ in [warm_up([spec]), *quick([spec])]:
            for point in round_.points:
                assert 1 <= point.tokens <= longest(spec)
                assert point.tokens + DECODE_STEPS + 1 < spec.max_len


def test_a_round_gives_every_kind_of_sample_and_leaves_nothing(machine, node, device):
    heard = []
    probe = Probe(instance(0, Stage.DECODE, device), machine.pool, machine.engines, heard.extend)
    names = list(machine.engines)
    points = [Point(name, tokens, batch) for name in names for tokens, batch in ((8, 1), (40, 3))]
    found = probe.measure(Round(points, cycles=4))
    kinds = {(s.kind, s.stage) for s in found}
    assert kinds >= {
        ("prefill", "prefill"), ("decode", "decode"), ("overhead", "decode"),
        ("admit", "prefill"), ("admit", "decode"), ("kv_in", "decode"),
        ("host", "decode"), ("slot", "decode"),
    }  # fmt: skip
    steps = [s for s in found if s.kind in ("prefill", "decode", "kv_in")]
    assert all(0 < s.seconds < 5 for s in steps)
    assert {(s.model, s.batch) for s in steps if s.kind == "decode"} == {
        (name, batch) for name in names for batch in (1, 3)
    }
    assert all(s.nbytes > 0 for s in found if s.kind in ("kv_in", "host", "slot"))
    assert heard
    assert all(not engine.requests for engine in machine.engines.values())
    assert not any(use.used for use in node.host_kv.stats().values())


def test_grid_has_no_point_beyond_limits_or_room(device):
    pytest.importorskip("ray")
    from aegaeon.errors import UserError
    from aegaeon.live.measure.profile_run import grid

    room = 1 << 20
    points = grid(SPEC, room, room)
    assert {p.tokens for p in points} == {8, 16, 32, 64, 128, longest(SPEC)}
    for point in points:
        need = point.batch * (point.tokens + DECODE_STEPS) * SPEC.kv_bytes_per_token
        assert need < room
    assert len(points) < len(grid(SPEC, 1e12, 1e12))
    with pytest.raises(UserError, match=r"backend\.kv_bytes: no prompt of tiny-qwen2 fits"):
        grid(SPEC, 1000, 1e12)
    with pytest.raises(UserError, match="max_len 10 is too short"):
        grid(replace(SPEC, max_len=10), room, room)
