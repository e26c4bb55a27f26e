"""Notes of jobs, their progress bar, and what is said and returned at the end."""

import io

import pytest
from rich.console import Console

from aegaeon.errors import UserError
from aegaeon.experiment import hydra_job, notes, summary
from aegaeon.results.mlflow.tracker import LogReport

PLACE = {"job": "e", "runs": "runs", "tracking": "none"}


def closed(*left, many=True):
    console = Console(file=io.StringIO(), width=200)
    code = summary.close(left, many, console)
    return code, console.file.getvalue()


def failed(error, user):
    return {"status": "failed", "error": error, "user": user}


def test_notes_come_back_whole_and_of_one_sweep_only():
    with notes.collected(bar=False) as left:
        first = notes.sweep_id()
        notes.leave({"status": "finished"})
        assert left == []
    assert left == [{"status": "finished"}]
    with notes.collected(bar=False) as left:
        assert notes.sweep_id() != first
    assert left == []


def test_the_bar_counts_notes(monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(notes, "Console", lambda stderr: terminal)
    with notes.collected(bar=True, runs=12):
        for _ in range(3):
            notes.leave({"status": "finished"})
    assert "3/12" in terminal.file.getvalue()


def test_a_sweep_says_where_requests_were_cut_or_rows_left_out():
    counts = ((0, None), (3, None), (7, 2))
    rows = [dict(zip(("requests_clipped", "rows_skipped"), c, strict=True)) for c in counts]
    _, text = closed(*[{"status": "finished", "row": row} for row in rows])
    assert "2 of 3 runs cut requests, up to 7 (requests_clipped in their rows)" in text
    assert "1 of 3 runs skipped rows, up to 2 (rows_skipped in their rows)" in text


def test_runs_are_counted_by_status():
    code, text = closed({"status": "finished"}, {"status": "skipped"}, {"status": "finished"})
    assert code == 0
    assert "2 finished, 1 skipped" in text
    assert "skipped runs had finished before" in text


def test_estimated_costs_and_runs_of_other_code_are_named():
    row = {"costs": "profile; roofline: yi"}
    left = [{"status": "finished", "row": row}, {"status": "skipped", "other": ["policies"]}]
    _, text = closed(*left, {"status": "finished", "row": {"costs": "profile"}})
    assert "1 runs with estimated costs, not measured ones: profile; roofline: yi" in text
    assert "1 of the skipped runs were made by other code (policies)" in text
    single = {"row": row | {"overrides": "a=[1]"}, "label": "l", "seconds": 1.0, "key": "k"}
    _, text = closed({"status": "finished", **PLACE, **single}, many=False)
    assert "costs                profile; roofline: yi" in text
    assert "overrides            a=[1]" in text


def test_failures_are_grouped_and_the_first_five_shown():
    left = [failed(f"key {n}: wrong", True) for n in range(7)] + [failed("key 0: wrong", True)]
    code, text = closed(*left)
    assert code == 2
    assert "8 failed" in text
    assert "error: key 0: wrong (2 runs)" in text
    assert text.count("error: ") == 5
    assert text.endswith("... and 2 more\n")


def test_a_failure_that_is_no_mistake_gives_1():
    assert closed(failed("key", True), failed("ZeroDivisionError: x", False))[0] == 1


def test_a_single_run_shows_its_measures():
    note = {"status": "finished", "label": "aegaeon", "seconds": 0.5, "key": "abc"}
    code, text = closed({**PLACE, **note, "row": {"requests": 199}}, many=False)
    assert code == 0
    assert "requests             199" in text
    assert "runs/e/abc" in text


def test_a_single_run_that_finished_before_shows_its_measures_too():
    note = {"status": "skipped", "label": "aegaeon", "seconds": 0.0, "key": "abc"}
    code, text = closed({**PLACE, **note, "row": {"requests": 199}}, many=False)
    assert code == 0
    assert "aegaeon  (finished before)" in text
    assert "requests             199" in text


@pytest.mark.parametrize("count", [1, 2])
def test_mlflow_is_synced_once_per_experiment(count, monkeypatch):
    seen = []

    def sync(*given, sweep_id, console):
        seen.append(sweep_id)
        return LogReport(1, ())

    monkeypatch.setattr(summary, "sync_command", sync)
    with notes.collected(bar=False):
        closed(*[{**PLACE, "status": "finished"}] * count)
        assert seen == [notes.sweep_id()]


def test_the_report_comes_before_mlflow_and_survives_it(monkeypatch, tmp_path):
    errors = [UserError("http://head: no"), RuntimeError("http://me:pw@head broke")]

    def broken(*_, **__):
        raise errors.pop()

    monkeypatch.setattr(summary, "sync_command", broken)
    monkeypatch.setattr(summary, "sweep_id", lambda: "s")
    finished = {**PLACE, "status": "finished"}
    for _ in range(len(errors)):
        code, text = closed(finished, finished)
        assert code == summary.UNLOGGED
        assert text.startswith("2 finished\nnot logged: ")
        assert "Traceback" not in text
        assert "pw" not in text
    errors.append(UserError("no"))
    assert closed(finished, failed("key", True))[0] == 2


def test_tracking_is_checked_before_any_run(tmp_path, monkeypatch):
    monkeypatch.setattr(hydra_job, "_job", lambda: pytest.fail("the work began"))
    arguments = ["experiment=kick", "tracking.uri=file:mlruns", f"paths.runs={tmp_path}/runs"]
    with pytest.raises(UserError, match=r"tracking\.uri: 'file:mlruns' is not understood"):
        hydra_job.run_hydra(arguments)
    assert list(tmp_path.iterdir()) == []
