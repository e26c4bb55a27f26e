import io
import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from aegaeon.errors import UserError
from aegaeon.results.commands import (
    columns_text,
    diff_command,
    export_command,
    import_command,
    sync_command,
)
from aegaeon.results.mlflow import entries
from aegaeon.results.mlflow.entries import Entry
from aegaeon.results.mlflow.tracker import connect
from aegaeon.results.parquet import write_table
from aegaeon.results.record import open_run
from aegaeon.results.schema import ROWS
from aegaeon.results.store import records


def logged(database: Path, experiment: str = "fig11a"):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id])
    return client, sorted(runs, key=lambda run: run.info.run_name)


def sync(database: Path, sweep_id: str = "sweep1") -> int:
    quiet = Console(file=io.StringIO())
    return sync_command("fig11a", database.parent, "sqlite", sweep_id=sweep_id, console=quiet)


def test_a_sweep_becomes_a_parent_with_its_runs(database, run):
    directory = run(1, sweep_id="sweep1")
    run(2, sweep_id="sweep1", tbt_p99_s=None)
    assert sync(database) == 3
    client, (one, two, parent) = logged(database)
    assert [r.info.status for r in (one, two, parent)] == ["FINISHED"] * 3
    assert parent.data.tags["kind"] == "sweep"
    assert parent.info.run_name == "sweep1"
    assert one.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert one.data.tags["run_dir"] == f"fig11a/{directory.name}"
    assert one.data.params["num_models"] == "40"
    assert one.data.params["system.name"] == "aegaeon"
    assert one.data.metrics["slo_attainment"] == 0.93
    assert "tbt_p99_s" in one.data.metrics
    assert "tbt_p99_s" not in two.data.metrics
    assert [f.path for f in client.list_artifacts(one.info.run_id)] == ["run.json"]
    assert parent.info.start_time <= one.info.start_time <= one.info.end_time


def test_what_is_logged_is_not_logged_again_and_more_may_follow(database, run):
    run(1, sweep_id="sweep1")
    assert (sync(database), sync(database)) == (2, 0)
    run(2, sweep_id="sweep1")
    run(3)
    assert sync(database) == 2
    _, runs = logged(database)
    assert [r.info.run_name[-3:] for r in runs] == ["s=1", "s=2", "s=3", "ep1"]
    assert runs[-1].info.end_time == runs[1].info.end_time
    assert "mlflow.parentRunId" not in runs[2].data.tags


def test_what_was_deleted_in_mlflow_comes_back_when_it_gains_runs(database, run):
    run(1, sweep_id="sweep1")
    sync(database)
    client, (one, parent) = logged(database)
    client.delete_run(parent.info.run_id)
    client.delete_experiment(one.info.experiment_id)
    run(2, sweep_id="sweep1")
    assert sync(database) == 1
    assert len(logged(database)[1]) == 3


def test_failed_and_killed_runs_are_closed_as_failed(database, run, monkeypatch):
    run(1, sweep_id="sweep1")
    with pytest.raises(KeyError), open_run(database.parent, "fig11a", {"a": 1}, sweep_id="sweep1"):
        raise KeyError("quota")
    with open_run(database.parent, "fig11a", {"a": 2}, sweep_id="sweep1") as killed:
        monkeypatch.setattr(killed, "save", lambda status: None)
        killed.facts["row"] = {}
    with open_run(database.parent, "fig11a", {"a": 3}, sweep_id="other") as elsewhere:
        monkeypatch.setattr(elsewhere, "save", lambda status: None)
        elsewhere.facts["row"] = {}
    assert sync(database) == 4
    _, runs = logged(database)
    notes = [r.data.tags.get("mlflow.note.content", "") for r in runs if r.info.status == "FAILED"]
    assert sum("KeyError" in note for note in notes) == 1
    assert sum("without closing" in note for note in notes) == 1
    assert {r.data.tags["kind"] for r in runs if r.info.status == "FAILED"} == {"run", "sweep"}
    assert {r.info.status for r in runs} == {"FINISHED", "FAILED"}


def test_both_ways_into_mlflow_store_the_same(empty_database, tmp_path, run):
    from aegaeon.results.mlflow import sqlite as mlflow_writer

    run(1, sweep_id="sweep1")
    run(2, sweep_id="sweep1")
    work = entries.of_records(records(tmp_path / "runs", "fig11a"), tmp_path / "runs", "sweep1")
    seen = []
    for kind in (mlflow_writer.SqliteWriter, mlflow_writer.ServerWriter):
        database = Path(shutil.copy(empty_database, tmp_path / f"{kind.__name__}.db"))
        writer = kind(f"sqlite:///{database}", tmp_path / "artifacts")
        place = writer.experiment("fig11a")
        ids = writer.insert(place, work, {})
        assert writer.known(place.experiment_id) == ids
        assert set(ids) == {entry.key for entry in work}
        names = {run_id: key for key, run_id in ids.items()}
        runs = logged(database)[1]
        for r in runs:
            r.data.tags["mlflow.parentRunId"] = names.get(r.data.tags.get("mlflow.parentRunId"))
        seen.append([(r.data.to_dictionary(), r.info.run_name, r.info.status) for r in runs])
        seen[-1].append([(r.info.start_time, r.info.end_time) for r in runs])
    assert seen[0] == seen[1]


def log_one(folder: Path, name: str) -> None:
    tracker = connect("sqlite", folder)
    tracker.log("fig11a", [Entry(name, name, "FINISHED", 1, 2)])


def test_four_processes_may_meet_a_new_database_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    names = ["a", "b", "c", "d"]
    processes = [context.Process(target=log_one, args=(tmp_path, name)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 4
    assert [r.info.run_name for r in logged(tmp_path / "mlflow.db")[1]] == names
    assert not list(tmp_path.glob(".*tmp*"))


def test_importing_stored_tables_twice_adds_nothing(database, stored_row, tmp_path):
    stored = tmp_path / "stored"
    for figure in ("fig11a", "fig12"):
        rows = pd.DataFrame([stored_row(seed=s, experiment=figure) for s in range(3)])
        write_table(ROWS.arrow(rows, stored), stored / f"{figure}.parquet")
    quiet = Console(file=io.StringIO())
    counts = [import_command(stored, "sqlite", database.parent, console=quiet) for _ in range(2)]
    assert counts == [8, 0]
    for figure in ("fig11a", "fig12"):
        runs = logged(database, figure)[1]
        tags = runs[0].data.tags
        assert len(runs) == 4
        assert (tags["source"], tags["hardware"], tags["config_hash"]) == (
            ("simulated", "h800", "0" * 16)
        )
        assert runs[-1].info.run_name == f"stored/{figure}"
        assert tags["mlflow.parentRunId"] == runs[-1].info.run_id
        assert runs[0].data.metrics["wall_s"] == 1.0


def test_commands_export_compare_and_describe(run, tmp_path):
    run(1)
    out = Console(file=io.StringIO(), width=200)
    runs, stored = tmp_path / "runs", tmp_path / "stored"
    assert export_command(["fig11a"], runs, stored, console=out) == [stored / "fig11a.parquet"]
    assert diff_command(["fig11a"], runs, stored, console=out)
    run(1, switches=8)
    assert not diff_command(["fig11a"], runs, stored, console=out)
    text = out.file.getvalue()
    for part in ("fig11a.parquet: 1 rows", "1 of 1 rows identical", "switches: 8 now, 7 stored"):
        assert part in text
    assert all(f"`{name}`" in columns_text() for name in ROWS.names)


def test_long_configurations_are_cut_to_what_mlflow_takes(run, row, tmp_path):
    config = {f"key@{i}": "x" * 900 for i in range(150)} | {"paths": {"root": "/home"}}
    with open_run(tmp_path, "fig11a", config) as record:
        record.finish(row())
    (entry,) = entries.of_records([record.facts], tmp_path)
    assert len(entry.params) == entries.MAX_PARAMS
    assert entry.params["num_models"] == "40"
    assert max(map(len, entry.params.values())) == entries.MAX_PARAM_LENGTH
    assert not any("@" in name or "paths" in name for name in entry.params)


def test_targets_that_cannot_be_used_are_refused(tmp_path):
    assert connect("none", tmp_path) is None
    assert connect("sqlite:///rel/a.db", tmp_path).uri == f"sqlite:///{Path('rel/a.db').absolute()}"
    assert connect("http://head:5000", tmp_path).folder == tmp_path
    with pytest.raises(UserError, match=r"tracking\.uri: 'file:mlruns'"):
        connect("file:mlruns", tmp_path)
    with pytest.raises(UserError, match="no stored table"):
        import_command(tmp_path, "sqlite", tmp_path)


def test_a_broken_database_is_named_and_the_results_are_safe(tmp_path):
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("CREATE TABLE experiments (nonsense TEXT)")
    with pytest.raises(UserError, match=r"mlflow\.db: MLflow failed.*aegaeon results sync"):
        connect("sqlite", tmp_path).log("fig11a", [])


def test_mlflow_is_not_imported_before_it_is_needed():
    code = "import sys, aegaeon.results.commands; sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
