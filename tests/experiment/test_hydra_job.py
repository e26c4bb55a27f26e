"""A single `aegaeon run` within this process: what it leaves, says and returns."""

import json
import os
import shutil
from pathlib import Path

import pytest

from aegaeon.errors import UserError
from aegaeon.experiment import hydra_job
from aegaeon.experiment.compose import compose_raw
from aegaeon.experiment.hydra_job import run_hydra, run_point
from profiles import files
from tests.support import quick_hydra

SMALL = ("models.count=2", "workload.duration_s=30", "tracking.uri=none", "name='a.b'")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    quick_hydra.use(monkeypatch)
    return tmp_path / "runs of mine"


def test_a_run_is_recorded_with_a_command_that_can_be_pasted(runs, capsys) -> None:
    place = f"paths.runs='{runs}'"
    assert run_hydra([*SMALL, place]) == 0
    first = capsys.readouterr().err
    (record,) = runs.glob("a.b/*/run.json")
    assert json.loads(record.read_text())["command"] == (
        "aegaeon run models.count=2 workload.duration_s=30 tracking.uri=none "
        f"""'name='"'"'a.b'"'"'' 'paths.runs='"'"'{runs}'"'"''"""
    )
    assert run_hydra([*SMALL, place]) == 0
    again = capsys.readouterr().err
    assert "slo_attainment" in first
    assert first.splitlines()[1:-1] == again.splitlines()[1:-2]
    assert len(list(runs.glob("*/*"))) == 1


def test_an_edit_of_a_profile_of_ones_own_makes_another_run(runs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files, "FOLDERS", (tmp_path, files.FOLDER))
    shutil.copytree(files.FOLDER / "h800", tmp_path / "h800")
    for count in (1, 2):
        assert run_hydra([*SMALL, f"paths.runs='{runs}'"]) == 0
        records = [json.loads(path.read_text()) for path in runs.glob("*/*/run.json")]
        assert len({record["row"]["point"] for record in records}) == count
        for file in (tmp_path / "h800").glob("*-tp1.json"):
            file.write_text(file.read_text() + " ")


@pytest.mark.parametrize("part", ["plan", "execute"])
def test_an_error_of_the_code_is_recorded(part, runs, monkeypatch, capsys) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(hydra_job, part, broken)
    assert run_hydra([*SMALL, f"paths.runs='{runs}'"]) == 1
    assert capsys.readouterr().err == "error: ZeroDivisionError: by nothing\n"
    (record,) = runs.glob("a.b/*/run.json")
    assert json.loads(record.read_text())["status"] == "failed"


def test_a_large_run_says_so_before_its_requests_are_drawn(runs, monkeypatch, capsys) -> None:
    def refused(*_: object) -> None:
        raise UserError("stopped")

    monkeypatch.setattr(hydra_job, "plan", refused)
    base = ("workload.duration_s=120", "tracking.uri=none", f"paths.runs='{runs}'")
    assert run_hydra(["models.count=100000", *base]) == 2
    said = capsys.readouterr().err
    assert "100000 models, 0.1 req/s, seed 0: about 1,200,000 requests; this takes" in said
    assert run_hydra(["models.count=100", *base]) == 2
    assert capsys.readouterr().err == "error: stopped\n"


def test_a_point_returns_its_objective(runs, monkeypatch) -> None:
    left = []
    monkeypatch.setattr(hydra_job.notes, "leave", left.append)
    monkeypatch.setattr(hydra_job.notes, "sweep_id", lambda: "sweep")
    monkeypatch.setattr(hydra_job.notes, "command", lambda: "aegaeon run")
    place = f"paths.runs='{runs}'"
    found = run_point(compose_raw(["~local", *SMALL, place, "seeds=[0,1]"]))
    assert found == pytest.approx(sum(n["row"]["slo_attainment"] for n in left) / 2)
    assert 0 < found <= 1
    # A point that is refused is the worst that an optimising sweeper can choose.
    assert run_point(compose_raw(["~local", *SMALL, place, "hardware.gpus=3"])) == 0.0


def test_the_result_of_an_optimising_sweeper_is_told(tmp_path, monkeypatch, capsys) -> None:
    def job() -> None:
        folder = Path(os.environ["AEGAEON_SWEEP_NOTES"])
        text = "{name: optuna, best_params: {system.prefill: 4}, best_value: 0.5}"
        (folder / "optimization_results.yaml").write_text(text)

    monkeypatch.setattr(hydra_job, "_job", job)
    assert run_hydra(["-m", "models.count=2,3", f"paths.runs={tmp_path}"]) == 0
    assert "best: system.prefill=4 with a mean slo_attainment of 0.5" in capsys.readouterr().err
