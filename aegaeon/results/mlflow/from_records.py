"""Entries of runs and sweeps from `run.json` files."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from aegaeon.results.config_hash import counted, jsonable, short_digest
from aegaeon.results.mlflow import notes, values
from aegaeon.results.mlflow.entry import Dataset, Entry, tagged
from aegaeon.results.mlflow.sweeps import Logged, row_tags, run_name, sweep_key, with_parents
from aegaeon.results.record import RUN_FILE, run_directory

_DIGEST = 36


def of_records(
    records: Iterable[Mapping[str, Any]], runs_root: Path, sweep_id: str = ""
) -> tuple[list[Entry], list[str]]:
    """Return the entries to log, sweeps first, and a sentence per record that is damaged.

    `sweep_id` names a sweep that is over. A run of that sweep with status `running` has lost its
    process, and is logged as failed. Another run with status `running` may have a living process,
    and is left out.
    """
    logged, problems = [], []
    for facts in records:
        try:
            if facts["status"] != "running" or (sweep_id and facts["sweep_id"] == sweep_id):
                logged.append(Logged(_entry(facts, runs_root), facts["row"] or {}))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            place = _place(facts, runs_root)
            problems.append(
                f"{place} cannot be logged ({type(error).__name__}: {error}); "
                "delete that folder and run its point again"
            )
    return with_parents(logged), problems


def _place(facts: Mapping[str, Any], runs_root: Path) -> Path:
    names = (str(facts.get(name, "?")) for name in ("experiment", "config_hash"))
    return runs_root.joinpath(*names) / RUN_FILE


def _entry(facts: Mapping[str, Any], runs_root: Path) -> Entry:
    row = facts["row"] or {}
    directory = run_directory(runs_root, facts["experiment"], facts["config_hash"])
    start = _milliseconds(facts["start"])
    files = [directory / name for name in (RUN_FILE, *facts["tables"])]
    duration = row.get("duration_s") or 0.0
    return Entry(
        key=f"{facts['config_hash']}@{facts['start']}",
        name=run_name(row) if row else facts["config_hash"],
        status="FINISHED" if facts["status"] == "finished" else "FAILED",
        start_ms=start,
        end_ms=_milliseconds(facts["end"]) if facts["end"] else start,
        params=values.params(counted(facts["config"]), row),
        metrics=values.metrics(row),
        series=partial(values.over_time, directory / "requests.parquet", duration),
        tags=tagged("run", _tags(facts, row, directory.relative_to(runs_root).as_posix())),
        datasets=_datasets(facts),
        files=[(path, "") for path in files],
        point=facts["config_hash"],
        parent=sweep_key(facts["sweep_id"]) if facts["sweep_id"] else None,
        artifact_uri=directory.resolve().as_uri(),
    )


def _tags(facts: Mapping[str, Any], row: Mapping[str, Any], run_dir: str) -> dict[str, str]:
    finished = facts["status"] == "finished"
    dirty = str(facts["git"]["dirty"]).lower()
    return {
        **row_tags(row),
        "config_hash": facts["config_hash"],
        "git_sha": facts["git"]["sha"],
        "git_dirty": dirty,
        "sweep_id": facts["sweep_id"],
        "run_dir": run_dir,
        "mlflow.user": _user(),
        "mlflow.source.name": facts["command"],
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": facts["git"]["sha"],
        "mlflow.source.git.dirty": dirty,
        "mlflow.note.content": notes.of_row(row) if finished else notes.of_failure(facts["error"]),
    }


def _datasets(facts: Mapping[str, Any]) -> list[Dataset]:
    """Return the files that a run read, and the settings of its workload."""
    workload = facts["config"].get("workload")
    found = [
        Dataset(name, digest[:_DIGEST], json.dumps({"uri": name}))
        for name, digest in facts.get("inputs", {}).items()
    ]
    if workload:
        text = json.dumps({"uri": json.dumps(workload)})
        name = str(workload.get("name", "workload"))
        found.append(Dataset(name, short_digest(jsonable(workload)), text))
    return found


def _user() -> str:
    """Return the login name, as MLflow's own clients do; empty where the system has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _milliseconds(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp).timestamp() * 1000)
