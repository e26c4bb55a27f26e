"""Costs: what each part predicts, and what scaling changes."""

from dataclasses import astuple

import pytest

from aegaeon.core import DecodeCost, PrefillCost, SwitchCost

PREFILL = PrefillCost(floor_s=0.02, base_s=0.005, token_s=1e-4, token_sq_s=1e-7)
DECODE = DecodeCost(base_s=0.01, context_s=1e-6, request_s=1e-3)
MEASURED_PREFILL = PrefillCost(
    0.02, 0.005, 1e-4, 1e-7, curve=((100.0, 0.02), (300.0, 0.04)), prompt_s=0.002
)
MEASURED_DECODE = DecodeCost(0.01, 1e-6, 1e-3, curve=((1.0, 0.01), (2.0, 0.016), (4.0, 0.017)))


def test_a_prefill_lies_on_its_floor_until_its_terms_exceed_it():
    assert PREFILL.seconds(100, 10_000) == 0.02
    assert PREFILL.seconds(1000, 1_000_000) == pytest.approx(0.005 + 0.1 + 0.1)


def test_a_decode_step_grows_with_batch_and_context():
    assert DECODE.step_s(4, 1000) == pytest.approx(0.01 + 0.001 + 0.004)


def test_a_curve_replaces_all_but_the_squares_of_a_prefill():
    assert MEASURED_PREFILL.seconds(50, 0) == MEASURED_PREFILL.seconds(100, 0) == 0.02
    assert MEASURED_PREFILL.seconds(200, 9) == pytest.approx(0.03 + 9e-7)
    assert MEASURED_PREFILL.seconds(200, 0, prompts=3) == pytest.approx(0.034)


def test_a_curve_replaces_all_but_the_context_of_a_step():
    steps = [MEASURED_DECODE.step_s(batch, 0) for batch in (1, 2, 3, 4, 6)]
    assert steps == pytest.approx([0.010, 0.016, 0.0165, 0.017, 0.018])
    assert MEASURED_DECODE.step_s(1, 1000) == pytest.approx(0.011)


@pytest.mark.parametrize("cost", [PREFILL, DECODE, MEASURED_PREFILL, MEASURED_DECODE])
def test_scaling_multiplies_every_time_and_no_size(cost):
    for mine, true in zip(astuple(cost.scaled(3.0)), astuple(cost), strict=True):
        if isinstance(true, tuple):
            assert mine == tuple((size, seconds * 3.0) for size, seconds in true)
        else:
            assert mine == true * 3.0


def test_scaling_a_switch_keeps_the_ratio_of_its_ways():
    assert SwitchCost(host_s=2.0, activate_s=0.5).scaled(0.5) == SwitchCost(1.0, 0.25)
