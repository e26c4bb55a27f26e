"""The end of an `aegaeon run`: what is printed, MLflow, and the exit code."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from aegaeon.errors import UserError, first_line
from aegaeon.experiment.notes import Note, sweep_id
from aegaeon.results.mlflow.commands import sync_command
from aegaeon.results.mlflow.tracker import connect
from aegaeon.results.secrets import masked

UNLOGGED = 3

_SHOWN_ERRORS = 5
_MEASURES = (
    *("requests", "requests_clipped", "rows_skipped", "failed"),
    *("slo_attainment", "artifact_qos", "joint_attainment"),
    "request_attainment",
    *("goodput_rps", "ttft_p50_s", "ttft_p99_s", "tbt_p50_s", "tbt_p99_s"),
    *("switches", "switch_p50_s", "mean_active_models"),
)

_TEXTS = ("costs", "overrides")


def check_tracking(runs: Path, uri: str) -> None:
    """Raise `UserError` unless MLflow can take the runs; before the work, and without writing."""
    tracker = connect(uri, runs)
    if tracker is not None:
        tracker.check()


def close(notes: Sequence[Note], many: bool, console: Console) -> int:
    """Report, log the runs to MLflow, and return the exit code.

    The code is 0 if no run failed, 2 if all failures are mistakes of the user's, else 1. It is
    UNLOGGED if no run failed and MLflow lacks some run.
    """
    status = Counter(note["status"] for note in notes)
    if not many and notes and "row" in notes[0]:
        _show(notes[0], console)
    if many:
        _show_changed(notes, console)
    parts = [f"{status[s]} {s}" for s in ("finished", "skipped", "failed") if status[s]]
    if many or not status["failed"]:
        console.print(", ".join(parts), highlight=False)
    if status["skipped"]:
        console.print("skipped runs had finished before; delete their folder to repeat")
        _note_code(notes, console)
    _note_costs(notes, console)
    failures = [note for note in notes if note["status"] == "failed"]
    _report(failures, console)
    unlogged = [place for place in _places(notes) if not _log(*place, console)]
    if failures:
        return 2 if all(n["user"] for n in failures) else 1
    return UNLOGGED if unlogged else 0


def _log(job: str, runs: str, uri: str, console: Console) -> bool:
    """Log the runs of an experiment; return whether MLflow has all of them."""
    try:
        return not sync_command(
            [job], Path(runs), uri, sweep_id=sweep_id(), console=console
        ).problems
    except UserError as error:
        said = str(error)
    except Exception as error:
        said = f"MLflow: {type(error).__name__}: {masked(first_line(error))}"
    text = Text(f"not logged: {said}", style="yellow")
    console.print(text, highlight=False, soft_wrap=True)
    return False


def _places(notes: Sequence[Note]) -> list[tuple[str, str, str]]:
    return sorted({(n["job"], n["runs"], n["tracking"]) for n in notes if "runs" in n})


def _note_code(notes: Sequence[Note], console: Console) -> None:
    """Say how many skipped runs were made by other code than that of this program now."""
    old = [note["other"] for note in notes if note.get("other")]
    if old:
        parts = sorted({part for other in old for part in other})
        text = f"{len(old)} of the skipped runs were made by other code ({', '.join(parts)})"
        console.print(text, style="yellow", highlight=False)


def _note_costs(notes: Sequence[Note], console: Console) -> None:
    """Say how many finished runs used costs that no profile of the device gave."""
    rows = [note["row"] for note in notes if note.get("row")]
    found = Counter(row["costs"] for row in rows if "roofline" in row.get("costs", ""))
    for costs, count in found.most_common(_SHOWN_ERRORS):
        text = f"{count} runs with estimated costs, not measured ones: {costs}"
        console.print(text, style="yellow", highlight=False)


def _report(failures: Sequence[Note], console: Console) -> None:
    grouped = Counter(note["error"] for note in failures)
    for error, count in grouped.most_common(_SHOWN_ERRORS):
        times = f" ({count} runs)" if count > 1 else ""
        text = Text(f"error: {error}{times}", style="red")
        console.print(text, highlight=False, soft_wrap=True)
    if len(grouped) > _SHOWN_ERRORS:
        recorded = "" if all(note["user"] for note in failures) else "; see run.json"
        console.print(f"... and {len(grouped) - _SHOWN_ERRORS} more{recorded}")


def _show_changed(notes: Sequence[Note], console: Console) -> None:
    """Say in how many runs of a sweep requests were cut or rows of the trace left out."""
    rows = [note["row"] for note in notes if "row" in note]
    for column, what in (("requests_clipped", "cut requests"), ("rows_skipped", "skipped rows")):
        counts = [row.get(column) or 0 for row in rows]
        if runs := sum(count > 0 for count in counts):
            text = (
                f"{runs} of {len(rows)} runs {what}, up to {max(counts)} ({column} in their rows)"
            )
            console.print(text, highlight=False)


def _show(note: Note, console: Console) -> None:
    """Print the measures of a single run."""
    took = "finished before" if note["status"] == "skipped" else f"{note['seconds']:.2f} s"
    console.print(f"[bold]{note['label']}[/bold]  ({took})", highlight=False)
    for key in _MEASURES:
        value = note["row"].get(key)
        if value is not None:
            console.print(f"  {key:20s} {value:.6g}", highlight=False)
    for key in _TEXTS:
        if text := note["row"].get(key):
            console.print(Text(f"  {key:20s} {text}"), highlight=False, soft_wrap=True)
    place = Path(note["runs"], note["job"], note["key"])
    shown = place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place
    console.print(Text(f"  {shlex.quote(str(shown))}"), highlight=False, soft_wrap=True)
