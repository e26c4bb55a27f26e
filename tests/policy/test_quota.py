import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegaeon.policy.quota import ALPHA_FLOOR, QMAX_S, decode_quotas

TBT = 0.1
STEPS = st.lists(st.floats(1e-3, 0.5), min_size=1, max_size=12)
SWITCH = st.floats(1e-3, 60.0)


@given(steps=STEPS, switch_s=SWITCH)
def test_every_batch_earns_the_same_time_and_the_round_lasts_what_alpha_promises(steps, switch_s):
    round_ = decode_quotas(steps, switch_s, TBT)
    earned = [TBT / step * quota for step, quota in zip(steps, round_.quotas, strict=True)]
    assert earned == pytest.approx([earned[0]] * len(steps))
    assert switch_s + sum(round_.quotas) == pytest.approx(round_.alpha * earned[0])
    assert round_.attainment == pytest.approx(min(1.0, earned[0] / (switch_s + sum(round_.quotas))))


@given(steps=STEPS, switch_s=SWITCH)
def test_the_largest_quota_is_qmax_unless_the_floor_holds_all_below_it(steps, switch_s):
    round_ = decode_quotas(steps, switch_s, TBT)
    largest = max(round_.quotas)
    assert round_.quotas[steps.index(max(steps))] == largest
    without_floor = switch_s * max(steps) / TBT / QMAX_S + sum(steps) / TBT
    if without_floor >= ALPHA_FLOOR:
        assert largest == pytest.approx(QMAX_S)
    else:
        assert round_.alpha == pytest.approx(ALPHA_FLOOR)
        assert largest < QMAX_S


@pytest.mark.parametrize(
    ("qmax_s", "quota", "alpha", "round_s"), [(3.0, 3.0, 1.0, 12.0), (4.0, 4.0, 0.9375, 15.0)]
)
def test_worked_example_of_section_4_3(qmax_s, quota, alpha, round_s):
    round_ = decode_quotas([0.025] * 3, 3.0, TBT, qmax_s)
    assert round_.quotas == pytest.approx([quota] * 3)
    assert round_.alpha == pytest.approx(alpha)
    assert 3.0 + sum(round_.quotas) == pytest.approx(round_s)
    assert round_.attainment == 1.0
    # 120 tokens of 0.1 s each cover the 12 s round of the paper.
    assert quota / 0.025 * TBT >= round_s


@given(steps=STEPS)
def test_a_round_without_switches_is_the_limit_of_the_formula_without_the_floor(steps):
    free = decode_quotas(steps, 0.0, TBT)
    limit = decode_quotas(steps, 1e-12, TBT, alpha_floor=0.0)
    assert free.quotas == pytest.approx(limit.quotas)
    assert max(free.quotas) == pytest.approx(QMAX_S)


@given(steps=STEPS, switch_s=st.floats(1e-15, 1e-9))
def test_tiny_switches_lose_nothing_to_rounding(steps, switch_s):
    round_ = decode_quotas(steps, switch_s, TBT)
    assert all(math.isfinite(q) and 0.0 <= q <= QMAX_S * (1 + 1e-9) for q in round_.quotas)


def test_overload_stays_finite_and_says_so():
    round_ = decode_quotas([0.2, 0.3], 2.0, TBT)
    assert round_.alpha > 5.0
    assert round_.attainment == pytest.approx(1 / round_.alpha)
    assert round_.quotas == pytest.approx([QMAX_S * 2 / 3, QMAX_S])


def test_a_round_of_nobody_has_no_quotas():
    assert decode_quotas([], 1.0, TBT).quotas == ()
