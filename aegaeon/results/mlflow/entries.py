"""MLflow entries of runs and sweeps, built from `run.json` files or stored rows."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from aegaeon.results.config_hash import counted
from aegaeon.results.record import run_directory
from aegaeon.results.schema import ROWS

MAX_PARAMS = 100
MAX_PARAM_LENGTH = 500
MAX_TAG_LENGTH = 5000
_REFUSED = re.compile(r"[^\w\-./: ]")
_MEASURES = (*ROWS.of_role("measure"), "wall_s")
_ROW_TAGS = ("figure", "system", "source", "hardware", "machine", "config_hash", "git_sha")


@dataclass(frozen=True, slots=True)
class Entry:
    """One MLflow run that has ended.

    `key` never changes, so no run is logged twice. Times are milliseconds since 1970.
    `artifact_uri` None leaves the place of artifacts to MLflow.
    """

    key: str
    name: str
    status: Literal["FINISHED", "FAILED"]
    start_ms: int
    end_ms: int
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    artifact_uri: str | None = None


def of_records(
    records: Iterable[Mapping[str, Any]], runs_root: Path, sweep_id: str = ""
) -> list[Entry]:
    """Return the sweeps and then the runs to log.

    `sweep_id` names a sweep that is over. A run of that sweep with status `running` has lost its
    process, and is logged as failed. Another run with status `running` may have a living process,
    and is left out.
    """
    ended = [
        facts
        for facts in records
        if facts["status"] != "running" or (sweep_id and facts["sweep_id"] == sweep_id)
    ]
    children = [_of_record(facts, runs_root) for facts in ended]
    return [*_parents(children), *children]


def of_rows(
    rows: Sequence[Mapping[str, Any]], experiment: str, details: Sequence[str] = ()
) -> list[Entry]:
    """Return a parent for the stored table of `experiment` and one entry per row.

    `details` names the stored detail tables; a tag of each entry gives the paths of these tables.
    """
    where = ", ".join(f"{name}/{experiment}.parquet" for name in details)
    children = [_of_row(row, _sweep_key(f"stored/{experiment}"), where) for row in rows]
    return [*_parents(children), *children]


def _of_record(facts: Mapping[str, Any], runs_root: Path) -> Entry:
    row = facts["row"] or {}
    directory = run_directory(runs_root, facts["experiment"], facts["config_hash"])
    note = "" if facts["status"] == "finished" else _note(facts["error"])
    tags = {
        **_row_tags(row),
        "config_hash": facts["config_hash"],
        "git_sha": facts["git"]["sha"],
        "git_dirty": str(facts["git"]["dirty"]).lower(),
        "sweep_id": facts["sweep_id"],
        "run_dir": directory.relative_to(runs_root).as_posix(),
        "mlflow.source.name": facts["command"],
        "mlflow.note.content": note,
    }
    start = _milliseconds(facts["start"])
    return Entry(
        key=f"{facts['config_hash']}@{facts['start']}",
        name=_run_name(row) if row else facts["config_hash"],
        status="FINISHED" if facts["status"] == "finished" else "FAILED",
        start_ms=start,
        end_ms=_milliseconds(facts["end"]) if facts["end"] else start,
        params=_limited({**_flatten(counted(facts["config"])), **_settings(row)}),
        metrics=_metrics(row),
        tags=_tags("run", tags),
        parent=_sweep_key(facts["sweep_id"]) if facts["sweep_id"] else None,
        artifact_uri=directory.resolve().as_uri(),
    )


def _of_row(row: Mapping[str, Any], parent: str, details: str) -> Entry:
    digest = hashlib.sha256(json.dumps(row, sort_keys=True, default=str).encode()).hexdigest()[:16]
    now = int(time.time() * 1000)
    return Entry(
        key=f"{row['config_hash']}@stored-{digest}",
        name=_run_name(row),
        status="FINISHED",
        start_ms=now - int(row["wall_s"] * 1000),
        end_ms=now,
        params=_limited(_settings(row)),
        metrics=_metrics(row),
        tags=_tags(
            "run",
            {**_row_tags(row), "sweep_id": f"stored/{row['experiment']}", "details": details},
        ),
        parent=parent,
    )


def _parents(children: Sequence[Entry]) -> list[Entry]:
    """Return one entry per sweep. A sweep spans its runs, and has failed if a run has failed."""
    sweeps: dict[str, list[Entry]] = {}
    for child in children:
        if child.parent is not None:
            sweeps.setdefault(child.parent, []).append(child)
    return [
        Entry(
            key=key,
            name=runs[0].tags["sweep_id"],
            status="FAILED" if any(run.status == "FAILED" for run in runs) else "FINISHED",
            start_ms=min(run.start_ms for run in runs),
            end_ms=max(run.end_ms for run in runs),
            tags=_tags("sweep", {"sweep_id": runs[0].tags["sweep_id"]}),
        )
        for key, runs in sweeps.items()
    ]


def _sweep_key(sweep_id: str) -> str:
    return f"sweep@{sweep_id}"


def _run_name(row: Mapping[str, Any]) -> str:
    return f"{row['system']} n={row['num_models']} r={row['rate_rps']:g} s={row['seed']}"


def _row_tags(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(row[name]) for name in _ROW_TAGS if name in row}


def _tags(kind: Literal["sweep", "run"], tags: Mapping[str, str]) -> dict[str, str]:
    return {"kind": kind} | {name: text[:MAX_TAG_LENGTH] for name, text in tags.items() if text}


def _settings(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(row[name]) for name in ROWS.of_role("setting") if name in row}


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the measured values; an empty one (None or NaN, unequal to itself) is left out."""
    values = {name: row.get(name) for name in _MEASURES}
    return {
        name: float(value) for name, value in values.items() if value is not None and value == value
    }


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return `a.b.c` -> text for every leaf; a list is one leaf, written as JSON."""
    flat: dict[str, str] = {}
    for name, value in config.items():
        key = _REFUSED.sub("_", f"{prefix}{name}")
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{key}."))
        else:
            flat[key] = json.dumps(value) if isinstance(value, list) else str(value)
    return flat


def _limited(params: Mapping[str, str]) -> dict[str, str]:
    """Cut to the limits of MLflow: settings come first, as a sweep varies settings."""
    settings = set(ROWS.of_role("setting"))
    names = sorted(params, key=lambda name: (name not in settings, name))[:MAX_PARAMS]
    return {name: params[name][:MAX_PARAM_LENGTH] for name in names}


def _note(error: Mapping[str, str] | None) -> str:
    if error is None:
        return "The process ended without closing this run (killed, or the machine went down)."
    # The end of a traceback is the useful part, but MLflow cuts a long tag at the end.
    trace = error["traceback"][-(MAX_TAG_LENGTH - 500) :]
    return f"**{error['type']}**: {error['message'][:300]}\n\n```\n{trace}\n```"


def _milliseconds(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp).timestamp() * 1000)
