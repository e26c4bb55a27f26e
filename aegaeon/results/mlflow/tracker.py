"""MLflow as an index of `runs/`: written at the end of a sweep, by one process, in bulk.

The run directories are the record: MLflow's data can be deleted, and logged again from `runs/`.
No MLflow run has the status RUNNING, as only ended runs are logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock, Timeout

from aegaeon.errors import UserError, first_line
from aegaeon.results.mlflow import view
from aegaeon.results.mlflow.checks import SQLITE, check_store, command, default_uri
from aegaeon.results.mlflow.entry import Entry
from aegaeon.results.mlflow.environment import set_environment
from aegaeon.results.mlflow.once import not_shown, replaced
from aegaeon.results.secrets import masked

if TYPE_CHECKING:
    from aegaeon.results.mlflow.writers.base import Found, Place, Writer

_LOCK_SECONDS = 300


def connect(target: str, runs_root: Path) -> Tracker | None:
    """Return the tracker that `tracking.uri` names, or None for `none`; no store is opened yet.

    `target` is `sqlite` (a database in `runs_root`), `none`, a `sqlite:///` path or the http
    address of an MLflow server. Raises `UserError` for any other text.
    """
    if target == "none":
        return None
    if target == "sqlite":
        target = default_uri(runs_root)
    if target.startswith(SQLITE) and target != SQLITE:
        database = Path(target.removeprefix(SQLITE)).absolute()
        return Tracker(f"{SQLITE}{database}", database.parent, runs_root)
    if target.startswith(("http://", "https://")):
        return Tracker(target, runs_root.absolute(), runs_root)
    raise UserError(
        f"tracking.uri: '{masked(target)}' is not understood; expected sqlite, none, "
        "sqlite:///<path> or http(s)://<server>. (MLflow no longer keeps runs in plain files.)"
    )


class LogReport(NamedTuple):
    """The number of entries that are new in MLflow, and a sentence per entry left out."""

    new: int
    problems: Sequence[str]


@dataclass(frozen=True, slots=True)
class Tracker:
    """An MLflow tracking store of `runs_root`.

    `folder` holds the lock, and the artifacts of imported runs.
    """

    uri: str
    folder: Path
    runs_root: Path

    def check(self, again: str = "") -> None:
        """Raise `UserError` unless runs can be logged here; nothing is written.

        `again` is the command that logs results which exist already; empty before a run.
        """
        set_environment()
        check_store(self.uri, self.runs_root, again)

    def log(
        self,
        experiment: str,
        entries: Sequence[Entry],
        progress: Callable[[int], None] = lambda count: None,
    ) -> LogReport:
        """Log the entries that the store lacks; each point is then shown once.

        `entries` must have parents before children. The experiment is created when needed.
        `progress` receives the number of entries since its last call. Raises `UserError` if MLflow
        fails or the lock is held for 300 s.
        """
        with self._writer() as writer:
            place = writer.experiment(experiment, view.tags(experiment, entries))
            known = writer.known(place.experiment_id)
            fresh = not_shown(entries, known)
            needed = {entry.parent for entry in fresh}
            fresh = [e for e in fresh if e.tags.get("kind") != "sweep" or e.key in needed]
            for entry in entries:
                if entry.key in needed and entry.key in known:
                    writer.extend(known[entry.key].run_id, entry)
            progress(len(entries) - len(fresh))
            problems = []
            for start in range(0, len(fresh), writer.chunk):
                chunk = fresh[start : start + writer.chunk]
                problems += _insert(writer, place, chunk, known)
                progress(len(chunk))
            if old := replaced(known):
                writer.remove(old)
        return LogReport(len(fresh) - len(problems), problems)

    @contextmanager
    def _writer(self) -> Iterator[Writer]:
        """Open the store under the lock: two processes that create one database would break it."""
        set_environment()
        from aegaeon.results.mlflow.writers import opened

        # An error reaches the user as the message of a `UserError`. The import sets these levels.
        for logger in ("mlflow", "alembic", "urllib3"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        lock = FileLock(self.folder / "mlflow.lock", timeout=_LOCK_SECONDS)
        again = command(self.uri, self.runs_root)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with lock:
                yield opened.writer(self.uri, self.folder)
        except Timeout as error:
            raise UserError(
                f"{lock.lock_file}: another process has held the MLflow lock for {_LOCK_SECONDS} s;"
                f" wait for it, then log the runs with {again}."
            ) from error
        except (*opened.FAILURES, OSError) as error:
            raise UserError(
                f"{masked(self.uri)}: MLflow failed ({masked(first_line(error))}). The results "
                f"themselves are safe in the run directories; log them by {again} when the store "
                "is well again."
            ) from error


def _insert(
    writer: Writer, place: Place, chunk: Sequence[Entry], known: dict[str, Found]
) -> list[str]:
    """Insert entries, and add them to `known`; return a sentence per entry that is refused."""
    try:
        known |= writer.insert(place, chunk, known)
        return []
    except Exception as error:
        # The first kinds come from an entry whose parent or table cannot be read.
        if not isinstance(error, (KeyError, TypeError, ValueError)) and not writer.refuses(error):
            raise
        if len(chunk) == 1:
            return [f"{chunk[0].name} is not logged ({masked(first_line(error))})"]
    return [line for entry in chunk for line in _insert(writer, place, [entry], known)]
