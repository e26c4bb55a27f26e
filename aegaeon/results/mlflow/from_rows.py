"""Entries of the rows of a stored table."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aegaeon.results.mlflow import notes, values
from aegaeon.results.mlflow.entry import Entry, tagged
from aegaeon.results.mlflow.sweeps import Logged, row_tags, run_name, sweep_key, with_parents


def of_rows(
    rows: Sequence[Mapping[str, Any]],
    experiment: str,
    files: Sequence[tuple[Path, str]] = (),
    details: Sequence[str] = (),
) -> list[Entry]:
    """Return a parent for the stored table of `experiment` and one entry per row.

    `files` are artifacts of the parent, each with its folder there. `details` names the stored
    detail tables; a tag of each entry gives the paths of these tables.
    """
    where = ", ".join(f"{name}/{experiment}.parquet" for name in details)
    logged = [Logged(_entry(row, where), row) for row in rows]
    parent, *runs = with_parents(logged)
    return [replace(parent, files=files), *runs]


def _entry(row: Mapping[str, Any], details: str) -> Entry:
    digest = hashlib.sha256(json.dumps(row, sort_keys=True, default=str).encode()).hexdigest()[:16]
    now = int(time.time() * 1000)
    commit = row["git_sha"]
    sweep_id = f"stored/{row['experiment']}"
    tags = {
        **row_tags(row),
        "sweep_id": sweep_id,
        "details": details,
        "mlflow.source.name": "aegaeon results import",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit.removesuffix("-dirty"),
        "mlflow.source.git.dirty": str(commit.endswith("-dirty")).lower(),
        "mlflow.note.content": notes.of_row(row),
    }
    return Entry(
        key=f"{row['config_hash']}@stored-{digest}",
        name=run_name(row),
        status="FINISHED",
        start_ms=now - int(row["wall_s"] * 1000),
        end_ms=now,
        params=values.settings(row),
        metrics=values.metrics(row),
        tags=tagged("run", tags),
        point=row["config_hash"],
        parent=sweep_key(sweep_id),
    )
