"""The crossing of a curve with 90 %: known answers and invariants."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegaeon.errors import UserError
from aegaeon.scoring.goodput import Crossing, crossing, sweep
from tests.support.synthetic_tables import sweep_table

NAN = math.nan


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([1.0, 0.95, 0.85, 0.2], Crossing(25.0)),
        ([1.0, 0.9, 0.0, 1.0], Crossing(20.0)),
        ([1.0, 0.8, 1.0, 0.0], Crossing(15.0)),
        ([1.0, 1.0, 0.95, 0.9], Crossing(40.0, open_ended=True)),
        ([0.9, 0.5, 0.4, 0.3], Crossing(10.0)),
        ([0.89, 1.0, 1.0, 1.0], None),
        ([1.0, 1.0, NAN, NAN], Crossing(20.0)),
        ([NAN, 1.0, 1.0, 1.0], None),
    ],
)
def test_known_crossings(y, expected):
    found = crossing([10, 20, 30, 40], y)
    if expected is None:
        assert found is None
    else:
        assert found.x == pytest.approx(expected.x)
        assert found.open_ended is expected.open_ended


def test_bad_input_is_refused():
    assert crossing([], []) is None
    with pytest.raises(ValueError, match="increasing"):
        crossing([1, 1], [1, 1])
    with pytest.raises(ValueError, match="argument"):
        crossing([1, 2], [1])


curves = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(curves, st.floats(0.05, 0.95))
def test_crossing_splits_the_curve(y, level):
    x = list(range(len(y)))
    found = crossing(x, y, level)
    if found is None:
        assert y[0] < level
        return
    assert all(value >= level for at, value in zip(x, y, strict=True) if at < found.x)
    assert found.open_ended == (min(y) >= level)
    if not found.open_ended:
        assert y[math.floor(found.x) + 1] < level or y[math.ceil(found.x)] < level


@given(curves, st.floats(0.05, 0.95), st.floats(0, 0.05))
def test_a_higher_level_never_crosses_later(y, level, more):
    low, high = crossing(range(len(y)), y, level), crossing(range(len(y)), y, level + more)
    assert high is None or (low is not None and high.x <= low.x)


def test_sweep_averages_seeds_and_keeps_gaps():
    data = sweep(sweep_table("fig11a", {"aegaeon": 70, "muxserve": 32}), "fig11a")
    assert (data.axis, data.seeds, data.gpus, data.source) == ("num_models", 3, 16, "simulated")
    assert data.crossing("aegaeon").x == pytest.approx(70, abs=1)
    assert data.crossing("muxserve") == Crossing(32.0)
    at = data.runs[(data.runs["system"] == "aegaeon") & (data.runs["num_models"] == 64)]
    assert len(at) == 3
    assert data.mean["aegaeon"][64] == pytest.approx(at["slo_attainment"].mean())
    assert sweep(sweep_table("fig11c", {"aegaeon": 0.5}), "fig11c").axis == "rate_rps"


def test_sweep_refuses_what_cannot_be_averaged():
    table = sweep_table("fig11a", {"aegaeon": 70})
    mixed = table.assign(source=["live"] + ["simulated"] * (len(table) - 1))
    with pytest.raises(UserError, match=r"fig11a.*source.*live.*simulated"):
        sweep(mixed, "fig11a")
    with pytest.raises(UserError, match="no rows"):
        sweep(table.iloc[:0], "fig11a")
