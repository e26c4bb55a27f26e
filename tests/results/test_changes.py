"""What an export changes is shown as a table old -> new before it is stored."""

import io

import pandas as pd
import pytest
from rich.console import Console

from aegaeon.results.changes import print_changes
from aegaeon.results.commands import export_command
from aegaeon.results.schema import ROWS
from aegaeon.results.store import load_stored


@pytest.fixture
def table(stored_row, tmp_path):
    rows = [stored_row(seed=seed, num_models=40 + seed) for seed in range(3)]
    return ROWS.frame(pd.DataFrame(rows), tmp_path)


def shown(fresh, stored, **options):
    out = Console(file=io.StringIO(), width=200)
    print_changes(fresh, stored, out, **options)
    return [line.split() for line in out.file.getvalue().splitlines()]


def test_measures_are_listed_with_the_settings_that_vary(table):
    fresh = table.assign(wall_s=9.0, figure="x")
    fresh.loc[1, ["slo_attainment", "tbt_p99_s"]] = [0.5, float("nan")]
    title, head, *lines = shown(fresh.iloc[1:], table)
    assert " ".join(title) == "1 of 3 stored rows change, old -> new:"
    assert head == ["num_models", "seed", "measure", "old", "new"]
    assert lines == [
        ["41", "1", "slo_attainment", "0.93", "0.5"],
        ["41", "1", "tbt_p99_s", "0.09", "none"],
    ]
    assert shown(fresh, table, limit=1)[-1] == ["…", "and", "1", "more", "measures"]


def test_nothing_is_shown_where_no_measure_changes(table):
    assert shown(table.assign(wall_s=9.0), table) == []
    assert shown(table.assign(config_hash=list("abc")), table) == []
    assert shown(table.iloc[:0], table) == []


@pytest.mark.parametrize("replace", [False, True])
def test_an_export_shows_what_it_replaces(run, tmp_path, replace):
    out = Console(file=io.StringIO(), width=200)
    places = (["fig11a"], tmp_path / "runs", tmp_path / "stored")
    run(1)
    export_command(*places, console=out)
    assert "->" not in out.file.getvalue()
    run(1, switches=8)
    export_command(*places, replace=replace, console=out)
    assert "1 of 1 stored rows change, old -> new" in out.file.getvalue()
    assert load_stored("fig11a", places[2])["switches"].item() == 8
