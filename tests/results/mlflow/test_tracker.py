import io
import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from aegaeon.errors import UserError
from aegaeon.results.mlflow.commands import import_command, sync_command
from aegaeon.results.mlflow.entry import Entry
from aegaeon.results.mlflow.from_records import of_records
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
    done = sync_command(["fig11a"], database.parent, "sqlite", sweep_id=sweep_id, console=quiet)
    assert not done.problems
    return done.new


def test_a_sweep_becomes_a_parent_with_its_runs(database, run):
    directory = run(1, sweep_id="sweep1")
    run(2, sweep_id="sweep1", tbt_p99_s=None)
    assert sync(database) == 3
    client, (one, two, parent) = logged(database)
    assert [r.info.status for r in (one, two, parent)] == ["FINISHED"] * 3
    assert parent.data.tags["kind"] == "sweep"
    assert parent.info.run_name.startswith("sweep of 20")
    assert one.info.run_name == "aegaeon, 40 models, 0.1 req/s, seed 1"
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
    assert [r.info.run_name[-6:] for r in runs] == [
        *("seed 1", "seed 2", "seed 3"),
        runs[-1].info.run_name[-6:],
    ]
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
    from aegaeon.results.mlflow.writers.server import ServerWriter
    from aegaeon.results.mlflow.writers.sqlite import SqliteWriter

    for seed, count in ((1, 16), (2, 48)):
        folder = run(seed, sweep_id="sweep1", num_models=count)
        arrivals = {"arrival_s": [0.0, 300.0], "output_tokens": [4, 2], "tokens_on_time": [4, 1]}
        pd.DataFrame(arrivals).to_parquet(folder / "requests.parquet")
    work, _ = of_records(records(tmp_path / "runs", "fig11a"), tmp_path / "runs", "sweep1")
    seen = []
    for kind in (SqliteWriter, ServerWriter):
        database = Path(shutil.copy(empty_database, tmp_path / f"{kind.__name__}.db"))
        writer = kind(f"sqlite:///{database}", tmp_path / "artifacts")
        place = writer.experiment("fig11a", {"mlflow.note.content": "what it is"})
        added = writer.insert(place, work, {})
        assert writer.known(place.experiment_id) == added
        assert set(added) == {entry.key for entry in work}
        writer.extend(added["sweep@sweep1"].run_id, work[0])
        seen.append(contents(database, {found.run_id: key for key, found in added.items()}))
    assert seen[0] == seen[1]
    ((name, history),) = [(k, v) for k, v in seen[0][-1]["history"].items() if "by_models" in k]
    assert (name, history) == ("attainment_by_models/aegaeon", [(16, 0.93), (48, 0.93)])
    assert seen[0][0]["history"]["slo_attainment_over_time"] == [(0, 1.0), (300, 0.5)]


def contents(database: Path, names: dict[str, str]):
    """Return all that people see of the runs of a database; parents by their key."""
    client, runs = logged(database)
    seen = []
    for r in runs:
        tags = {k: v for k, v in r.data.tags.items() if k != "run_key_begun"}
        tags["mlflow.parentRunId"] = names.get(tags.get("mlflow.parentRunId"))
        history = {
            name: [(m.step, m.value) for m in client.get_metric_history(r.info.run_id, name)]
            for name in r.data.metrics
        }
        times = (r.info.run_name, r.info.status, r.info.start_time, r.info.end_time)
        read = sorted((d.dataset.name, d.dataset.digest) for d in r.inputs.dataset_inputs)
        files = [f.path for f in client.list_artifacts(r.info.run_id)]
        if "run_dir" in tags:
            # A run's directory is its folder of artifacts in SQLite, and is copied to a server.
            files = sorted({*files} - {"requests.parquet"})
        seen.append({"tags": tags, "history": history, "run": times, "read": read, "files": files})
        seen[-1]["params"] = r.data.params
    return seen


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
    done = [import_command(stored, "sqlite", database.parent, console=quiet) for _ in range(2)]
    assert [each.new for each in done] == [8, 0]
    for figure in ("fig11a", "fig12"):
        runs = logged(database, figure)[1]
        tags = runs[0].data.tags
        assert len(runs) == 4
        assert (tags["source"], tags["hardware"], tags["config_hash"]) == (
            ("simulated", "h800", "0" * 16)
        )
        assert runs[-1].info.run_name == f"stored rows of {figure}"
        assert tags["mlflow.parentRunId"] == runs[-1].info.run_id
        assert runs[0].data.metrics["wall_s"] == 1.0


def test_a_point_is_shown_once_and_the_better_of_two_stays(database, run, stored_row, tmp_path):
    directory = run(1, sweep_id="first")
    sync(database)
    rows = pd.DataFrame([stored_row(experiment="fig11a") | {"config_hash": directory.name}])
    stored = tmp_path / "stored"
    write_table(ROWS.arrow(rows, stored), stored / "fig11a.parquet")
    quiet = Console(file=io.StringIO())
    assert import_command(stored, "sqlite", database.parent, console=quiet).new == 0
    run(1, sweep_id="second")
    assert sync(database) == 2
    _, runs = logged(database)
    shown = [r.data.tags["sweep_id"] for r in runs if r.data.tags["kind"] == "run"]
    assert shown == ["second"]
    assert (directory / "run.json").exists()


def test_damaged_records_are_named_and_the_others_are_logged(database, run):
    good, torn, empty = (run(seed, sweep_id="sweep1") for seed in (1, 2, 3))
    (torn / "run.json").write_text('{"status": "fini')
    (empty / "run.json").write_text('{"status": "finished", "config_hash": "abc"}')
    out = Console(file=io.StringIO(), width=80)
    done = sync_command([], database.parent, "sqlite", console=out)
    assert done.new == 2
    said = out.file.getvalue()
    assert all(f"left out of MLflow: {database.parent}" in line for line in said.splitlines())
    assert torn.name in said
    assert len(done.problems) == 2
    assert logged(database)[1][0].data.tags["config_hash"] == good.name


def test_an_entry_that_the_tables_refuse_is_named_and_the_others_are_logged(database):
    tracker = connect("sqlite", database.parent)
    entries = [Entry(key, key, "FINISHED", 1, 2) for key in ("a", "b", "c")]
    entries[1] = replace(entries[1], tags={"text": "\ud800"})
    done = tracker.log("fig11a", entries)
    assert done.new == 2
    assert [line.partition(" (")[0] for line in done.problems] == ["b is not logged"]
    assert [r.info.run_name for r in logged(database)[1]] == ["a", "c"]


def test_a_rebuilt_database_has_the_present_runs_only(
    database, empty_database, run, tmp_path, monkeypatch
):
    from aegaeon.results.mlflow.writers import opened

    # As a migration takes seconds, a copy stands for the new database.
    monkeypatch.setattr(opened, "make_database", lambda new, _: shutil.copy(empty_database, new))
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'old'")
    run(1)
    out = Console(file=io.StringIO(), width=200)
    with pytest.raises(UserError, match=r"another MLflow version.*aegaeon results sync --rebuild"):
        sync(database)
    assert sync_command([], database.parent, "sqlite", rebuild=True, console=out).new == 1
    assert [r.info.run_name[-6:] for r in logged(database)[1]] == ["seed 1"]
    assert f"{database}.old: the database as it was" in out.file.getvalue().replace("\n", "")
    with pytest.raises(UserError, match="--rebuild: only a database of this machine"):
        sync_command([], tmp_path, "http://head:5000", rebuild=True, console=out)


def test_mlflow_is_not_imported_before_it_is_needed():
    code = "import sys, aegaeon.results.mlflow.commands, aegaeon.experiment.hydra_job as j; "
    code += "sys.exit(bool({'mlflow', 'sqlalchemy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
