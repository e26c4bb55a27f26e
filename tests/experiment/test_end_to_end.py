"""`aegaeon run` in a process of its own: sweeps, resuming, failures, MLflow, exit codes."""

import os
import shlex
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from aegaeon import files
from aegaeon.errors import UserError
from aegaeon.experiment import hydra_job as run
from aegaeon.experiment.points import points
from aegaeon.results.config_hash import config_hash, point_hash
from aegaeon.results.store import collect, records

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden_config.yaml")
# In one process: starting workers costs more than these runs.
SWEEP = (
    *("-m", "name=small", "hardware.gpus=16,15", "workload.duration_s=10"),
    *("tracking.uri=sqlite", "hydra/launcher=basic"),
)


def aegaeon(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aegaeon", *arguments]
    wide = os.environ | {"COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=wide, capture_output=True, text=True, check=False, timeout=200
    )


def logged(runs: Path) -> Counter[str]:
    """Return how many MLflow runs have each status, sweeps left out."""
    query = "SELECT status FROM runs JOIN tags USING (run_uuid) WHERE key='kind' AND value='run'"
    with sqlite3.connect(runs / "mlflow.db") as database:
        return Counter(status for (status,) in database.execute(query))


def test_a_refused_run_leaves_nothing_and_the_sweep_goes_on(tmp_path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    place = "paths.runs='../ü =x,#%'"
    first = aegaeon("run", *SWEEP, place, folder=here)
    assert not list(here.iterdir())
    runs = tmp_path / "ü =x,#%"
    assert first.returncode == 2, first.stderr
    assert "1 finished, 1 failed" in first.stderr
    assert "must use exactly hardware.gpus = 15" in first.stderr
    (facts,) = records(runs, "small")
    assert facts["status"] == "finished"
    assert facts["command"] == shlex.join(("aegaeon", "run", *SWEEP, place))
    assert sorted(path.name for path in runs.iterdir() if path.is_dir()) == ["artifacts", "small"]
    assert not (runs / "multirun.yaml").exists()
    assert logged(runs) == {"FINISHED": 1}
    rows = collect(runs, "small")
    assert rows["gpus"].tolist() == [16]
    assert rows["overrides"].tolist() == ["workload.duration_s=10"]
    again = aegaeon("run", *SWEEP, f"paths.runs='{runs}'", "tracking.uri=none")
    assert again.returncode == 2
    assert "1 skipped, 1 failed" in again.stderr


def test_a_trace_is_one_run_by_any_path_and_another_when_it_is_edited(tmp_path) -> None:
    trace = tmp_path / "trace.csv"
    paths = f"{trace},{os.path.relpath(trace, ROOT)}"
    command = ("run", "-m", "name=traced", "workload=azure", f"workload.path={paths}")
    command += (f"paths.runs={tmp_path}", "tracking.uri=none", "hydra.launcher.n_jobs=1")
    for tokens, finished in ((100, 1), (200, 2)):
        trace.write_text(
            "TIMESTAMP,ContextTokens,GeneratedTokens\n"
            f"2024-05-10 00:00:00,{tokens},5\n2024-05-10 00:00:10,{tokens},5\n"
        )
        done = aegaeon(*command)
        assert "1 finished, 1 skipped" in done.stderr, done.stderr
        assert len(records(tmp_path, "traced")) == finished
    inputs = [facts["inputs"]["workload.path"] for facts in records(tmp_path, "traced")]
    assert len(set(inputs)) == 2
    assert all(digest.startswith("sha256:") for digest in inputs)


def test_a_full_disk_is_refused_before_the_run(tmp_path, monkeypatch) -> None:
    full = SimpleNamespace(free=1_000)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: full)
    with pytest.raises(UserError, match=r"1,000 bytes are free there.*set paths.runs"):
        run._check_room(tmp_path / "new" / "runs")


def test_cfg_job_prints_the_golden_configuration() -> None:
    shown = aegaeon("run", "--cfg", "job", "~local")
    assert yaml.safe_load(shown.stdout) == yaml.safe_load(GOLDEN.read_text())


@pytest.mark.slow
def test_kick_runs_resumes_and_is_logged(tmp_path) -> None:
    kick = ("experiment=kick", f"paths.runs={tmp_path}", "tracking.uri=sqlite")
    first = aegaeon("run", *kick)
    assert first.returncode == 0, first.stderr
    assert "kick sweeps over system, models.count" in first.stderr
    assert "12 finished" in first.stderr
    table = collect(tmp_path, "kick")
    assert len(table) == 12
    assert set(table["overrides"]) == {""}
    assert {point_hash(point) for point in points("kick")} == set(table["point"])
    assert {config_hash(point) for point in points("kick")} == set(table["config_hash"])
    assert logged(tmp_path) == {"FINISHED": 12}
    again = aegaeon("run", "-m", *kick)
    assert again.returncode == 0, again.stderr
    assert "12 skipped" in again.stderr
    assert logged(tmp_path) == {"FINISHED": 12}
    assert collect(tmp_path, "kick").equals(table)
