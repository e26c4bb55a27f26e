"""MLflow as an index of `runs/`: written at the end of a sweep, by one process, in bulk.

The run directories are the record: MLflow's data can be deleted, and logged again from `runs/`.
No MLflow run has the status RUNNING, as only ended runs are logged.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from aegaeon.errors import UserError, first_line
from aegaeon.results.mlflow.entries import Entry

if TYPE_CHECKING:
    from aegaeon.results.mlflow.sqlite import Writer

_SQLITE = "sqlite:///"
_LOCK_SECONDS = 300
_CHUNK = 250
# No telemetry, no job server next to the UI, and short time-outs for a server that is down.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def connect(target: str, runs_root: Path) -> Tracker | None:
    """Return the tracker that `tracking.uri` names, or None for `none`; no store is opened yet.

    `target` is `sqlite` (a database in `runs_root`), `none`, a `sqlite:///` path or the http
    address of an MLflow server. Raises `UserError` for any other text.
    """
    if target == "none":
        return None
    if target == "sqlite":
        target = f"{_SQLITE}{(runs_root / 'mlflow.db').absolute()}"
    if target.startswith(_SQLITE):
        database = Path(target.removeprefix(_SQLITE)).absolute()
        return Tracker(f"{_SQLITE}{database}", database.parent)
    if target.startswith(("http://", "https://")):
        return Tracker(target, runs_root.absolute())
    raise UserError(
        f"tracking.uri: '{target}' is not understood; expected sqlite, none, sqlite:///<path> or "
        "http(s)://<server>. (MLflow no longer keeps runs in plain files.)"
    )


@dataclass(frozen=True, slots=True)
class Tracker:
    """An MLflow tracking store; `folder` holds the lock and the artifacts of imported runs."""

    uri: str
    folder: Path

    def log(
        self,
        experiment: str,
        entries: Sequence[Entry],
        progress: Callable[[int], None] = lambda count: None,
    ) -> int:
        """Log the entries that the store lacks; return the number of new entries.

        `entries` must have parents before children. The experiment is created when needed.
        `progress` receives the number of entries since its last call. Raises `UserError` if MLflow
        fails or the lock is held for 300 s.
        """
        with self._writer() as writer:
            place = writer.experiment(experiment)
            known = writer.known(place.experiment_id)
            fresh = [entry for entry in entries if entry.key not in known]
            parents = {entry.parent for entry in fresh}
            for entry in entries:
                if entry.key in parents and entry.key in known:
                    writer.extend(known[entry.key], entry)
            progress(len(entries) - len(fresh))
            for start in range(0, len(fresh), _CHUNK):
                chunk = fresh[start : start + _CHUNK]
                known |= writer.insert(place, chunk, known)
                progress(len(chunk))
        return len(fresh)

    @contextmanager
    def _writer(self) -> Iterator[Writer]:
        """Open the store under the lock: two processes that create one database would break it."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from aegaeon.results.mlflow import sqlite as mlflow_writer

        # An error reaches the user as the message of a `UserError`.
        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "mlflow.lock", timeout=_LOCK_SECONDS)
        try:
            with lock:
                yield mlflow_writer.open_writer(self.uri, self.folder)
        except Timeout as error:
            raise UserError(
                f"{lock.lock_file}: another process has held the MLflow lock for {_LOCK_SECONDS} s;"
                " wait for it, then log the runs with `aegaeon results sync`."
            ) from error
        except mlflow_writer.FAILURES as error:
            reason = first_line(error)
            raise UserError(
                f"{self.uri}: MLflow failed ({reason}). The results themselves are safe in the run "
                "directories; repair or delete the store, then `aegaeon results sync`."
            ) from error
