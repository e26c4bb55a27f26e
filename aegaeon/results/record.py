"""One run, one directory: the configuration, the origin and the outcome of a run."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from aegaeon.errors import UserError, reason
from aegaeon.files import write_text
from aegaeon.results import provenance
from aegaeon.results.code import code_digests
from aegaeon.results.config_hash import VERSION, config_hash, jsonable, point_hash
from aegaeon.results.parquet import write_table
from aegaeon.results.schema import ROWS
from aegaeon.results.secrets import masked_command, without_secrets
from aegaeon.results.variant import curve_hash

RUN_FILE = "run.json"
Status = Literal["running", "finished", "failed"]


def run_directory(runs_root: Path, experiment: str, key: str) -> Path:
    """Return the directory of the run with this configuration hash."""
    return runs_root / experiment / key


@dataclass
class RunRecord:
    """A run under way; `open_run` creates and closes the record.

    Attributes:
        directory: the run's directory, with `run.json` and the tables.
        facts: the content of `run.json`.
        started: seconds of `time.perf_counter` at the start.
    """

    directory: Path
    facts: dict[str, Any]
    started: float = field(default_factory=time.perf_counter)

    @property
    def row(self) -> dict[str, Any] | None:
        """The stored-table row, once `finish` has been called."""
        row: dict[str, Any] | None = self.facts["row"]
        return row

    def write(self, name: str, table: pd.DataFrame | pa.Table) -> None:
        """Store a table as `<name>.parquet`; the run counts as finished only with this file."""
        write_table(table, self.directory / f"{name}.parquet")
        if f"{name}.parquet" not in self.facts["tables"]:
            self.facts["tables"].append(f"{name}.parquet")

    def finish(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Set the run's row and return a copy; the columns of provenance are added here.

        Raises `UserError` for a missing, unknown or ill-typed column.
        """
        known = {
            "config_hash": self.facts["config_hash"],
            "point": point_hash(self.facts["config"], self.facts["inputs"]),
            "curve": curve_hash(self.facts["config"], self.facts["inputs"]),
            "overrides": self.facts["overrides"],
            "git_sha": provenance.git_state().label,
            "machine": provenance.machine_name(),
            "wall_s": round(time.perf_counter() - self.started, 6),
        }
        self.facts["row"] = ROWS.row({**row, **known}, self.directory / RUN_FILE)
        return {**self.facts["row"]}

    def save(self, status: Status, error: BaseException | None = None) -> None:
        """Write `run.json` in one step."""
        self.facts["status"] = status
        if status != "running":
            self.facts["end"] = _now()
            self.facts["wall_s"] = round(time.perf_counter() - self.started, 6)
        if error is not None:
            self.facts["row"] = None
            self.facts["error"] = _describe(error)
        write_record(self.facts, self.directory)


@contextmanager
def open_run(
    runs_root: Path,
    experiment: str,
    config: Mapping[str, Any],
    *,
    inputs: Mapping[str, str] | None = None,
    overrides: str = "",
    sweep_id: str = "",
    command: str | None = None,
    started: float | None = None,
) -> Iterator[RunRecord]:
    """Record a run of `config` (resolved) in a directory, with success or failure.

    `inputs` are the digests of the files that `config` names (`config_hash`). `overrides` are the
    settings that differ from the experiment's file. `started` is the `time.perf_counter` of the
    run's start, if the run was planned before. The block must call `finish`. An exception in the
    block marks the run as failed, is recorded with its traceback, and reaches the caller. A killed
    process leaves the status `running`.
    """
    digests = dict(inputs or {})
    key = config_hash(config, digests)
    facts = _opening(experiment, key, sweep_id, command)
    facts |= {"inputs": digests, "overrides": overrides, "config": jsonable(config)}
    run = RunRecord(run_directory(runs_root, experiment, key), facts)
    run.started = run.started if started is None else started
    run.save("running")
    try:
        yield run
        if run.row is None:
            raise RuntimeError("the run ended without `finish`, so it has no result")
    except BaseException as error:
        run.save("failed", error)
        raise
    run.save("finished")


def read_record(path: Path) -> dict[str, Any]:
    """Read a `run.json`; raise `UserError` when the file is damaged.

    Records without `hash_version` are older than version 2, and get `hash_version` 1.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: not a readable run record ({reason(error)}); expected JSON. "
            "Delete its directory and start the sweep again."
        ) from error
    if not isinstance(facts, dict) or "status" not in facts:
        raise UserError(f"{path}: key 'status' is missing; delete its directory and run again.")
    return {"hash_version": 1, **facts}


def write_record(facts: Mapping[str, Any], directory: Path) -> None:
    """Write a `run.json` in one step, without passwords."""
    text = json.dumps(without_secrets(facts), indent=1, allow_nan=False)
    write_text(text + "\n", directory / RUN_FILE)


def _opening(experiment: str, key: str, sweep_id: str, command: str | None) -> dict[str, Any]:
    git = provenance.git_state()
    return {
        "experiment": experiment,
        "hash_version": VERSION,
        "config_hash": key,
        "sweep_id": sweep_id,
        "status": "running",
        "start": _now(),
        "end": None,
        "wall_s": None,
        "command": command or masked_command([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "code": dict(code_digests()),
        "git": {"sha": git.sha, "dirty": git.dirty},
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "tables": [],
        "row": None,
        "error": None,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _describe(error: BaseException) -> dict[str, str]:
    trace = "".join(traceback.format_exception(error))
    return {"type": type(error).__name__, "message": str(error), "traceback": trace}
