import json

import pandas as pd
import pytest

from aegaeon.errors import UserError
from aegaeon.results.diff import diff
from aegaeon.results.record import open_run
from aegaeon.results.schema import ROWS
from aegaeon.results.store import collect, export, finished, load_stored, other_code


@pytest.fixture
def places(tmp_path):
    return tmp_path / "runs", tmp_path / "stored"


def edit(directory, **changes):
    path = directory / "run.json"
    facts = json.loads(path.read_text())
    facts["row"].update(changes)
    path.write_text(json.dumps(facts))


def test_a_sweep_started_again_finds_what_is_finished(places, run, row):
    runs, _ = places
    done = run(0)
    assert finished(runs, "fig11a", done.name)
    assert not finished(runs, "fig11a", "0" * 16)
    assert not finished(runs, "fig12", done.name)
    with open_run(runs, "fig11a", {"seed": 1}) as record:
        record.write("events", pd.DataFrame({"t": [1.0]}))
        record.finish(row(seed=1))
    assert finished(runs, "fig11a", record.directory.name)
    (record.directory / "events.parquet").unlink()
    assert not finished(runs, "fig11a", record.directory.name)
    (done / "run.json").write_text("{")
    assert not finished(runs, "fig11a", done.name)


def test_collect_takes_finished_runs_only_and_sorts_them(places, run):
    runs, _ = places
    for seed, models in ((2, 80), (1, 40), (0, 80)):
        run(seed, num_models=models)
    with pytest.raises(KeyError), open_run(runs, "fig11a", {"seed": 9}):
        raise KeyError
    rows = collect(runs, "fig11a")
    assert list(zip(rows["num_models"], rows["seed"], strict=True)) == [(40, 1), (80, 0), (80, 2)]
    assert collect(runs, "nothing").empty


def test_exporting_twice_gives_the_same_bytes(places, run):
    runs, stored = places
    for seed in range(3):
        run(seed)
    first = export(runs, "fig11a", stored)
    before = first.path.read_bytes()
    assert export(runs, "fig11a", stored) == first == (stored / "fig11a.parquet", 3, 0, 0)
    assert first.path.read_bytes() == before
    pd.testing.assert_frame_equal(load_stored("fig11a", stored), collect(runs, "fig11a"))


def test_reproducing_results_leaves_the_stored_file_as_it_was(places, run):
    runs, stored = places
    edit(run(0), git_sha="one")
    path = export(runs, "fig11a", stored).path
    before = path.read_bytes()
    edit(run(0), wall_s=99.0, machine="other", git_sha="other")
    export(runs, "fig11a", stored)
    assert path.read_bytes() == before
    export(runs, "fig11a", stored, replace=True)
    assert load_stored("fig11a", stored)["wall_s"].item() == 99.0


@pytest.mark.parametrize("vague", [{"machine": "unknown"}, {"git_sha": "a-dirty"}])
def test_a_row_of_a_known_machine_and_commit_takes_the_place_of_a_vague_one(places, run, vague):
    runs, stored = places
    edit(run(0), **{"git_sha": "one", **vague})
    export(runs, "fig11a", stored)
    edit(run(0), machine="mine", git_sha="two")
    export(runs, "fig11a", stored)
    assert load_stored("fig11a", stored)[["machine", "git_sha"]].values.tolist() == [
        ["mine", "two"]
    ]


def test_rows_of_other_code_are_counted(places, run):
    runs, stored = places
    directory = run(0)
    run(1)
    assert other_code(runs, "fig11a", directory.name) == []
    facts = json.loads((directory / "run.json").read_text())
    facts["code"] |= {"policies": "sha256:0", "live engine": "sha256:0"}
    (directory / "run.json").write_text(json.dumps(facts))
    assert other_code(runs, "fig11a", directory.name) == ["policies"]
    assert export(runs, "fig11a", stored).old == 1


def test_merging_keeps_rows_not_run_and_replaces_changed_ones(places, run, tmp_path):
    runs, stored = places
    directories = [run(seed) for seed in range(3)]
    export(runs, "fig11a", stored)
    (directories[0] / "run.json").unlink()
    edit(directories[1], switches=99)
    run(3)
    assert export(runs, "fig11a", stored)[1:] == (4, 1, 0)
    assert list(load_stored("fig11a", stored)["switches"]) == [7, 99, 7, 7]
    assert export(runs, "fig11a", stored, replace=True)[1:] == (3, 0, 0)
    assert list(load_stored("fig11a", stored)["seed"]) == [1, 2, 3]


def test_missing_and_damaged_tables_are_refused_with_what_to_do(places):
    runs, stored = places
    again = r"aegaeon run experiment=fig11a"
    with pytest.raises(UserError, match=rf"fig11a\.parquet: no stored results.*{again}"):
        load_stored("fig11a", stored)
    with pytest.raises(UserError, match=rf"no finished run.*{again}"):
        export(runs, "fig11a", stored)
    stored.mkdir()
    (stored / "fig11a.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match=rf"not a parquet file.*{again}"):
        load_stored("fig11a", stored)


@pytest.fixture
def table(stored_row, tmp_path):
    return ROWS.frame(pd.DataFrame([stored_row(seed=s) for s in range(4)]), tmp_path)


def test_the_same_results_are_identical_whatever_time_they_took(table):
    report = diff(table.assign(wall_s=5.0, machine="other", git_sha="later").iloc[::-1], table)
    assert report.ok
    assert report.summary() == "4 of 4 rows identical to the stored ones"


def test_differences_are_counted_and_shown_cell_by_cell(table):
    fresh = table.iloc[1:].copy()
    fresh.loc[1, "slo_attainment"] = 0.5
    fresh.loc[2, "ttft_p50_s"] = float("nan")
    fresh.loc[3, "config_hash"] = "f" * 16
    report = diff(fresh, table)
    assert not report.ok
    assert report.summary() == (
        "0 of 4 rows identical to the stored ones, 2 differ, 2 were not run, 1 are new"
    )
    assert report.details() == [
        "0000000000000001 slo_attainment: 0.5 now, 0.93 stored",
        "0000000000000002 ttft_p50_s: nan now, 0.4 stored",
    ]
    assert report.details(limit=1)[1] == "… and 1 more cells"


def test_the_last_bit_counts_unless_a_tolerance_is_given(table):
    fresh = table.assign(goodput_rps=table["goodput_rps"] * (1 + 1e-12))
    assert diff(fresh, table).identical == 0
    assert diff(fresh, table, rtol=1e-9).ok
    assert not diff(fresh.assign(switches=8), table, rtol=1.0).ok
