"""The crossing of a curve with 90 %: known answers and invariants."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegaeon.errors import UserError
from aegaeon.results.variant import own
from aegaeon.scoring.goodput import Crossing, crossing, lacking, sweep
from tests.support.synthetic_tables import sweep_table


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([1.0, 0.95, 0.85, 0.2], Crossing(25.0)),
        ([1.0, 0.9, 0.0, 1.0], Crossing(20.0)),
        ([1.0, 0.8, 1.0, 0.0], Crossing(15.0)),
        ([1.0, 1.0, 0.95, 0.9], Crossing(40.0, open_ended=True)),
        ([0.9, 0.5, 0.4, 0.3], Crossing(10.0)),
        ([0.89, 1.0, 1.0, 1.0], None),
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


def test_sweep_averages_seeds():
    data = sweep(sweep_table("fig11a", {"aegaeon": 70, "muxserve": 32}), "fig11a")
    assert (data.axis, data.seeds, data.gpus, data.source) == ("num_models", 3, 16, "simulated")
    assert data.crossing("aegaeon").x == pytest.approx(70, abs=1)
    at = data.runs[(data.runs["system"] == "aegaeon") & (data.runs["num_models"] == 64)]
    assert len(at) == 3
    assert data.mean["aegaeon"][64] == pytest.approx(at["slo_attainment"].mean())
    assert sweep(sweep_table("fig11c", {"aegaeon": 0.5}), "fig11c").axis == "rate_rps"


def test_a_load_that_was_not_run_says_nothing():
    table = sweep_table("fig11a", {"aegaeon": 70, "muxserve": 32})
    some = table[(table["system"] != "aegaeon") | table["num_models"].isin([36, 40])]
    data = sweep(some, "fig11a")
    assert data.crossing("aegaeon") == Crossing(40.0, open_ended=True)
    said = lacking(some, "fig11a")
    assert "no aegaeon_3p13d, aegaeon_no_prefetch, aegaeon_artifact and 5 more" in said
    assert "aegaeon without 16, 20, 24 and 12 more" in said
    one = some[some["num_models"] == 36]
    assert sweep(one, "fig11a").axis == "num_models"
    assert lacking(table.assign(overrides="slo=half"), "fig11a").startswith(
        "Part of fig11a: no aeg"
    )
    assert lacking(table, "of_mine") == ""


VARIANT = {"overrides": "system.decode=6 system.prefill=10", "point": "v", "slo_attainment": 0.1}


def test_a_variant_is_a_curve_of_its_own():
    table = sweep_table("fig11a", {"aegaeon": 70})
    high = table[table["num_models"] >= 64]
    variant = high.assign(**VARIANT, hardware="h20x16", seed=[8] * len(high))
    data = sweep(pd.concat([table, variant]), "fig11a")
    assert data.crossing("aegaeon") == sweep(table, "fig11a").crossing("aegaeon")
    assert data.crossing("aegaeon system.decode=6 system.prefill=10") is None
    assert (data.hardware, data.seeds) == ("synthetic", 3)
    assert own(pd.concat([table, variant]), "fig11a").equals(table)
    with pytest.raises(UserError, match=r"all its rows differ .* system.decode=6 sys"):
        own(variant, "fig11a")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"workload": "bursty"}, r"workload \['market', 'bursty'\]"),
        ({"duration_s": 60.0}, r"duration_s \[300.0, 60.0\]"),
        ({"rate_rps": 0.2, "mix": "2 t"}, r"rate_rps .*, mix"),
        ({}, r"a file of conf/, a profile or a trace that has changed"),
    ],
)
def test_two_configurations_are_never_averaged_as_seeds(other, why):
    table = sweep_table("fig11a", {"aegaeon": 70})
    mixed = pd.concat([table, table.assign(point="q", seed=7, **other)])
    with pytest.raises(UserError, match=rf"fig11a: two configurations at .*aegaeon.*{why}"):
        sweep(mixed, "fig11a")
    if not other:
        with pytest.raises(UserError, match="two configurations"):
            own(mixed, "fig11a")


def test_two_configurations_are_never_one_curve_at_different_loads():
    table = sweep_table("fig11a", {"aegaeon": 70})
    early = table["num_models"] < 40
    curve = np.where(early, "a", "b")
    with pytest.raises(UserError, match=r"fig11a: the rows of aegaeon are of two configurations"):
        sweep(table.assign(curve=curve), "fig11a")
    # Rows that are older than the column tell nothing.
    sweep(table.assign(curve=np.where(early, None, "b")), "fig11a")
    sweep(table.assign(curve=curve, system=curve), "fig11a")


def test_sweep_refuses_what_cannot_be_averaged():
    table = sweep_table("fig11a", {"aegaeon": 70})
    mixed = table.assign(source=["live"] + ["simulated"] * (len(table) - 1))
    with pytest.raises(UserError, match=r"fig11a.*source.*live.*simulated"):
        sweep(mixed, "fig11a")
    with pytest.raises(UserError, match="no rows"):
        sweep(table.iloc[:0], "fig11a")
