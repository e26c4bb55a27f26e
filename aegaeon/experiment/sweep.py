"""What surrounds the jobs of one `aegaeon run`: progress, the notes they leave, the closing."""

from __future__ import annotations

import atexit
import json
import math
import os
import shutil
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from aegaeon.files import write_text
from aegaeon.results.commands import sync_command

Note = dict[str, Any]
_NOTES = "AEGAEON_SWEEP_NOTES"
_ID = "sweep_id"
_SHOWN_ERRORS = 5
_POLL_S = 0.25


def current() -> str:
    """Return the id of the sweep this process works for."""
    return (Path(os.environ[_NOTES]) / _ID).read_text()


def leave(note: Note) -> None:
    """Leave a job's note where the process that started the sweep finds it, whole or not at all."""
    folder = Path(os.environ[_NOTES])
    write_text(json.dumps(note), folder / f"{uuid.uuid4().hex}.json")


@dataclass
class Sweep:
    """A sweep under way, seen from the process that started it."""

    notes_dir: Path
    many: bool
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def notes(self) -> list[Note]:
        """Return the notes left so far."""
        return [json.loads(p.read_text()) for p in sorted(self.notes_dir.glob("*.json"))]

    def count(self) -> int:
        """Return how many jobs are done."""
        return sum(name.endswith(".json") for name in os.listdir(self.notes_dir))

    def close(self) -> int:
        """Log the runs to MLflow, report, and return the exit code.

        Without notes nothing was to run: Hydra was asked for help or a configuration only, and
        where it failed it has ended the process itself.
        """
        notes = self.notes()
        if not notes:
            return 0
        status = Counter(note["status"] for note in notes)
        for (job, runs, uri), count in Counter(_place(n) for n in notes if "runs" in n).items():
            sync_command(job, Path(runs), uri, sweep_id=current() if count > 1 else "")
        if not self.many and status["finished"]:
            _show(notes[0], self.console)
        parts = [f"{status[s]} {s}" for s in ("finished", "skipped", "failed") if status[s]]
        self.console.print(", ".join(parts), highlight=False)
        if status["skipped"]:
            self.console.print("skipped runs had finished before; delete their folder to repeat")
        failures = [note for note in notes if note["status"] == "failed"]
        self._report(failures)
        return 0 if not failures else 2 if all(n["user"] for n in failures) else 1

    def _report(self, failures: Sequence[Note]) -> None:
        grouped = Counter((note["error"]) for note in failures)
        for error, count in grouped.most_common(_SHOWN_ERRORS):
            times = f" ({count} runs)" if count > 1 else ""
            text = Text(f"error: {error}{times}", style="red")
            self.console.print(text, highlight=False, soft_wrap=True)
        if len(grouped) > _SHOWN_ERRORS:
            self.console.print(f"... and {len(grouped) - _SHOWN_ERRORS} more; see run.json")


def _place(note: Note) -> tuple[str, str, str]:
    return note["job"], note["runs"], note["tracking"]


def _show(note: Note, console: Console) -> None:
    """Print the measures of a single run."""
    console.print(f"[bold]{note['label']}[/bold]  ({note['seconds']:.2f} s)", highlight=False)
    for key in (
        *("requests", "failed", "slo_attainment", "artifact_qos", "joint_attainment"),
        *("goodput_rps", "ttft_p50_s", "ttft_p99_s", "tbt_p50_s", "tbt_p99_s"),
        *("switches", "switch_p50_s", "mean_active_models"),
    ):
        value = note["row"].get(key)
        if value is not None:
            console.print(f"  {key:20s} {value:.6g}", highlight=False)
    console.print(f"  {Path(note['runs']).name}/{note['job']}/{note['key']}", highlight=False)


@cache
def _notes_dir() -> Path:
    """Return this process's folder for notes; one for all its sweeps, as workers outlive them."""
    folder = Path(tempfile.mkdtemp(prefix="aegaeon-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[_NOTES] = str(folder)
    return folder


@contextmanager
def begin(many: bool, total: int | None = None) -> Iterator[Sweep]:
    """Open a sweep: an empty folder for notes, an id, and a progress bar if there are many jobs."""
    folder = _notes_dir()
    for left in folder.iterdir():
        left.unlink()
    (folder / _ID).write_text(uuid.uuid4().hex[:12])
    sweep = Sweep(folder, many)
    if many:
        with _bar(sweep, total):
            yield sweep
    else:
        yield sweep


@contextmanager
def _bar(sweep: Sweep, total: int | None) -> Iterator[None]:
    done = threading.Event()
    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=sweep.console, transient=True) as progress:
        task = progress.add_task("runs", total=total)

        def watch() -> None:
            while not done.wait(_POLL_S):
                progress.update(task, completed=sweep.count())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def sweep_size(arguments: Sequence[str], conf: Path) -> int | None:
    """Return how many runs a sweep's arguments make, or None where Hydra alone can tell."""
    from hydra import compose, initialize_config_dir
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    plain = [a for a in arguments if not a.startswith("-") and "experiment=" in a]
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            cfg = compose("config", overrides=plain, return_hydra_config=True)
        swept = {str(k): str(v) for k, v in (cfg.hydra.sweeper.params or {}).items()}
        swept |= dict(a.split("=", 1) for a in arguments if "=" in a and not a.startswith("-"))
        parser = OverridesParser.create()
        parsed = parser.parse_overrides([f"{key}={value}" for key, value in swept.items()])
        sizes = [len(list(o.sweep_iterator())) for o in parsed if o.is_sweep_override()]
        given = [o.value() for o in parsed if o.key_or_group == "seeds"]
        seeds = given[0] if given and isinstance(given[0], list) else cfg.seeds
    except (HydraException, ValueError):
        return None
    return math.prod(sizes) * len(seeds)


def is_sweep(experiment: str, conf: Path) -> bool:
    """Tell whether an experiment's file sweeps over anything."""
    return "sweeper:" in (conf / "experiment" / f"{experiment}.yaml").read_text()
