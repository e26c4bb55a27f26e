from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aegaeon.errors import UserError
from aegaeon.results.diff import diff
from aegaeon.results.schema import ROWS

WHERE = Path("runs/stored/fig11a.parquet")


def frame(stored_row, *changes) -> pd.DataFrame:
    rows = [stored_row(**{"seed": index, **change}) for index, change in enumerate(changes)]
    return pd.DataFrame(rows)


def test_a_good_table_comes_back_typed_ordered_and_sorted(stored_row):
    df = frame(stored_row, {"system": "muxserve"}, {"num_models": 80}, {"rate_rps": 1})
    good = ROWS.frame(df[df.columns[::-1]], WHERE)
    assert tuple(good.columns) == ROWS.names
    assert list(good["system"]) == ["aegaeon", "aegaeon", "muxserve"]
    assert list(good["num_models"]) == [40, 80, 40]
    assert good["rate_rps"].dtype == np.float64
    assert good["mean_active_models"].isna().all()


def test_an_empty_table_has_the_schema_too():
    assert tuple(ROWS.frame(pd.DataFrame(columns=list(ROWS.names)), WHERE).columns) == ROWS.names


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("seed", "zero", "type int"),
        ("seed", 1.5, "type int"),
        ("seed", True, "type int"),
        ("system", 3, "type str"),
        ("slo_attainment", "high", "type float"),
        ("slo_attainment", 1.2, "a share from 0 to 1"),
        ("slo_attainment", None, "a value in each"),
        ("slo_attainment", float("nan"), "a value in each"),
        ("joint_attainment", None, "a value in each"),
        ("rate_rps", None, "a value in each row"),
        ("rate_rps", float("nan"), "a value in each row"),
        ("requests", -1, "a finite number >= 0"),
        ("ttft_p99_s", float("inf"), "a finite number >= 0"),
        ("source", "guessed", "one of simulated, live"),
    ],
)
def test_a_bad_value_is_refused_in_a_table_and_in_a_row(stored_row, column, value, reason):
    bad = stored_row(**{column: value})
    for check in (
        lambda: ROWS.frame(pd.DataFrame([bad]), WHERE),
        lambda: ROWS.row(bad, WHERE),
    ):
        with pytest.raises(UserError) as caught:
            check()
        for part in (str(WHERE), f"'{column}'", reason, "aegaeon results export"):
            assert part in str(caught.value)


LATER = [column.name for column in ROWS.columns if column.later]


def test_a_table_older_than_a_column_has_empty_cells_that_are_not_compared(stored_row):
    old = ROWS.frame(frame(stored_row, {}, {}).drop(columns=LATER, errors="ignore"), WHERE)
    assert old[LATER].isna().all(axis=None)
    values = {name: {"int": 1, "float": 0.5, "str": "x"}[ROWS.by_name[name].type] for name in LATER}
    new = ROWS.frame(frame(stored_row, values, values), WHERE)
    assert diff(new, old).ok
    assert {cell.column for cell in diff(old, new).differing["0" * 16]} == set(LATER)


@pytest.mark.parametrize("name", [name for name in ROWS.names if name not in LATER])
def test_every_column_is_needed(stored_row, name):
    with pytest.raises(UserError, match=f"'{name}' is missing"):
        ROWS.frame(frame(stored_row, {}).drop(columns=name), WHERE)


def test_unknown_columns_and_double_keys_are_refused(stored_row):
    with pytest.raises(UserError, match="'colour' is unknown"):
        ROWS.frame(frame(stored_row, {}).assign(colour="red"), WHERE)
    with pytest.raises(UserError, match="two rows with the same key"):
        ROWS.frame(frame(stored_row, {"seed": 1}, {"seed": 1}), WHERE)


def test_a_row_may_hold_numpy_scalars_and_gives_plain_values(stored_row):
    given = stored_row(slo_attainment=np.float64(0.5), seed=np.int64(4), tbt_p99_s=np.nan)
    clean = ROWS.row(given, WHERE)
    assert tuple(clean) == ROWS.names
    assert type(clean["seed"]) is int
    assert type(clean["slo_attainment"]) is float
    assert clean["tbt_p99_s"] is None


def test_every_column_says_what_it_means():
    assert all(column.meaning for column in ROWS.columns)
    assert all(
        column.unit for column in ROWS.columns if column.name.endswith(("_s", "_rps", "_scale"))
    )
