"""The end of an `aegaeon run`: MLflow, what is printed, and the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from aegaeon.experiment.notes import Note, sweep_id
from aegaeon.results.commands import sync_command

_SHOWN_ERRORS = 5
_MEASURES = (
    *("requests", "requests_clipped", "rows_skipped", "failed"),
    *("slo_attainment", "artifact_qos", "joint_attainment"),
    "request_attainment",
    *("goodput_rps", "ttft_p50_s", "ttft_p99_s", "tbt_p50_s", "tbt_p99_s"),
    *("switches", "switch_p50_s", "mean_active_models"),
)


def close(notes: Sequence[Note], many: bool, console: Console) -> int:
    """Log the runs of a sweep to MLflow, report, and return the exit code.

    The code is 0 if no run failed, 2 if all failures are mistakes of the user's, else 1.
    """
    status = Counter(note["status"] for note in notes)
    for (job, runs, uri), count in Counter(_place(n) for n in notes if "runs" in n).items():
        sync_command(job, Path(runs), uri, sweep_id=sweep_id() if count > 1 else "")
    if not many and status["finished"]:
        _show(notes[0], console)
    if many:
        _show_changed(notes, console)
    parts = [f"{status[s]} {s}" for s in ("finished", "skipped", "failed") if status[s]]
    console.print(", ".join(parts), highlight=False)
    if status["skipped"]:
        console.print("skipped runs had finished before; delete their folder to repeat")
    failures = [note for note in notes if note["status"] == "failed"]
    _report(failures, console)
    return 0 if not failures else 2 if all(n["user"] for n in failures) else 1


def _place(note: Note) -> tuple[str, str, str]:
    return note["job"], note["runs"], note["tracking"]


def _report(failures: Sequence[Note], console: Console) -> None:
    grouped = Counter(note["error"] for note in failures)
    for error, count in grouped.most_common(_SHOWN_ERRORS):
        times = f" ({count} runs)" if count > 1 else ""
        text = Text(f"error: {error}{times}", style="red")
        console.print(text, highlight=False, soft_wrap=True)
    if len(grouped) > _SHOWN_ERRORS:
        console.print(f"... and {len(grouped) - _SHOWN_ERRORS} more; see run.json")


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
    console.print(f"[bold]{note['label']}[/bold]  ({note['seconds']:.2f} s)", highlight=False)
    for key in _MEASURES:
        value = note["row"].get(key)
        if value is not None:
            console.print(f"  {key:20s} {value:.6g}", highlight=False)
    console.print(f"  {Path(note['runs']).name}/{note['job']}/{note['key']}", highlight=False)
