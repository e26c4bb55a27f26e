"""Notes from the jobs of one `aegaeon run` to the process that started them.

Jobs may run in worker processes. A note is a file in a temporary folder of the starting process, so
it arrives from any launcher, and it also tells what no run record says: a run that was skipped, and
a configuration that was refused before it had a run directory.
"""

from __future__ import annotations

import atexit
import json
import os
import shlex
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from aegaeon.errors import UserError
from aegaeon.files import write_text
from aegaeon.signals import end_with

Note = dict[str, Any]
"""A job's `job`, `status`, `label` and `seconds`; with `key` and `row`, or `error` and `user`."""

_FOLDER = "AEGAEON_SWEEP_NOTES"
_OWNER = "AEGAEON_SWEEP_OWNER"
_ID = "sweep_id"
_BEGUN, _ENDED = ".begun", ".ended"
_COMMAND = "command"
# Optuna's sweeper leaves its result in `hydra.sweep.dir`, which is this folder.
_OPTIMUM = "optimization_results.yaml"
_PER_SECOND = 4
_kept: list[Note] = []


def sweep_id() -> str:
    """Return the id of the sweep that this process works for."""
    return (Path(os.environ[_FOLDER]) / _ID).read_text()


def command() -> str:
    """Return the command that started the sweep, as a terminal takes it."""
    return (Path(os.environ[_FOLDER]) / _COMMAND).read_text()


def leave(note: Note) -> None:
    """Leave a job's note where the process that started the sweep finds it, whole or not at all.

    On a full disk, the note of a job in the starting process stays in memory, and another
    process's note is lost: `collected` then misses a run.
    """
    try:
        write_text(json.dumps(note), Path(os.environ[_FOLDER]) / f"{uuid.uuid4().hex}.json")
    except UserError:
        _kept.append(note)


def optimum() -> str:
    """Return what an optimising sweeper found, as one line; empty for other sweepers."""
    path = Path(os.environ[_FOLDER]) / _OPTIMUM
    if not path.exists():
        return ""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "best_params" not in found:
        return f"solutions: {json.dumps(found.get('solutions'))}"
    best = " ".join(f"{key}={value}" for key, value in found["best_params"].items())
    return f"best: {best} with a mean slo_attainment of {found['best_value']:.6g}"


@contextmanager
def collected(
    bar: bool, runs: int | None = None, words: Sequence[str] = ()
) -> Iterator[list[Note]]:
    """Open a sweep; its list of notes is filled when the block ends.

    With `bar`, a progress bar counts the notes up to `runs`, or without an end if that is None.
    `words` are the command line that started the sweep.
    """
    try:
        folder = _folder()
        for left in folder.iterdir():
            left.unlink()
        (folder / _COMMAND).write_text(shlex.join(words))
        (folder / _ID).write_text(uuid.uuid4().hex[:12])
    except OSError as error:
        raise UserError(
            f"TMPDIR: a temporary file cannot be written ({error.strerror}); make room, or set "
            "TMPDIR to another folder"
        ) from error
    _kept.clear()
    notes: list[Note] = []
    try:
        with _Bar(folder, runs, disable=not bar):
            yield notes
    finally:
        notes += [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        notes += _kept


@contextmanager
def marked(job: int | None) -> Iterator[None]:
    """Mark the job of this number as begun, and as ended when the block ends.

    A job without an end has lost its process. None is the only job of a command.
    """
    folder = Path(os.environ[_FOLDER])
    if job is not None:
        (folder / f"{job}{_BEGUN}").touch()
    yield
    if job is not None:
        (folder / f"{job}{_ENDED}").touch()


def marks() -> tuple[set[int], set[int]]:
    """Return the numbers of the jobs that have begun, and that have ended; forget all marks."""
    return _jobs(_BEGUN), _jobs(_ENDED)


def _jobs(suffix: str) -> set[int]:
    paths = list(Path(os.environ[_FOLDER]).glob(f"*{suffix}"))
    for path in paths:
        path.unlink()
    return {int(path.stem) for path in paths}


@cache
def _folder() -> Path:
    """Return this process's folder for notes; one for all its sweeps, as workers outlive them."""
    folder = Path(tempfile.mkdtemp(prefix="aegaeon-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[_FOLDER] = str(folder)
    os.environ[_OWNER] = str(os.getpid())
    return folder


@cache
def follow_owner() -> None:
    """End this process if the process that started the sweep ends, unless both are one.

    Workers of Hydra's launchers wait for jobs for ever after the starting process was killed.
    """
    if (owner := int(os.environ[_OWNER])) != os.getpid():
        end_with(owner)


class _Bar(Progress):
    """A bar that counts the notes in a folder whenever it is drawn."""

    def __init__(self, folder: Path, runs: int | None, disable: bool) -> None:
        self._notes = folder
        console = Console(stderr=True)
        columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        super().__init__(
            *columns,
            console=console,
            transient=True,
            refresh_per_second=_PER_SECOND,
            disable=disable or not console.is_terminal,
        )
        self.add_task("runs", total=runs)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Count, then draw."""
        done = sum(name.endswith(".json") for name in os.listdir(self._notes))
        for task in self.task_ids:
            self.update(task, completed=done)
        yield from super().get_renderables()
