"""Entries of sweeps, from the entries of their runs; names and tags that people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from aegaeon.results.mlflow.entry import Entry, MetricValue, Series, tagged
from aegaeon.results.schema import ROWS

BY_MODELS = "attainment_by_models"
ROWS_FILE = "rows.csv"
SWEEP_TAG = "sweep"
_SINGLE = "single runs"
_ROW_TAGS = ("figure", "system", "source", "hardware", "machine", "config_hash", "git_sha")
_SCALES = {"input_scale": "input", "output_scale": "output", "slo_scale": "SLO"}
_TEXTS = ("overrides", "variant")


class Logged(NamedTuple):
    """The entry of a run, and the run's row; the row is empty if the run failed."""

    entry: Entry
    row: Mapping[str, Any]


def sweep_key(sweep_id: str) -> str:
    """Return the key of a sweep's entry."""
    return f"sweep@{sweep_id}"


def run_name(row: Mapping[str, Any]) -> str:
    """Return a run's name for people: system, load, what differs from the default, seed."""
    parts = [row["system"], f"{row['num_models']} models", f"{row['rate_rps']:g} req/s"]
    parts += [f"{word} ×{row[key]:g}" for key, word in _SCALES.items() if row.get(key, 1) != 1]
    parts += [str(row[name]) for name in _TEXTS if row.get(name)]
    return ", ".join([*parts, f"seed {row['seed']}"])


def row_tags(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts of a row that are tags of its run."""
    return {name: str(row[name]) for name in _ROW_TAGS if name in row}


def with_parents(runs: Sequence[Logged]) -> list[Entry]:
    """Return an entry per sweep, and then the runs, each with the name of its sweep in a tag.

    A sweep spans its runs, and has failed if a run has failed. The pages group runs by the tag.
    """
    sweeps: dict[str, list[Logged]] = {}
    for run in runs:
        sweeps.setdefault(run.entry.parent or "", []).append(run)
    above = {key: _parent(key, members) for key, members in sweeps.items() if key}
    names = {key: above[key].name if len(m) > 1 else _SINGLE for key, m in sweeps.items() if key}
    entries = [run.entry for run in runs]
    tags = [{**e.tags, SWEEP_TAG: names.get(e.parent or "", _SINGLE)} for e in entries]
    return [*above.values(), *map(_tagged, entries, tags)]


def _tagged(entry: Entry, tags: Mapping[str, str]) -> Entry:
    return replace(entry, tags=tags)


def _parent(key: str, runs: Sequence[Logged]) -> Entry:
    tags = runs[0].entry.tags
    failed = sum(run.entry.status == "FAILED" for run in runs)
    start = min(run.entry.start_ms for run in runs)
    rows = pd.DataFrame([dict(run.row) for run in runs if run.row])
    shared = ("mlflow.user", "mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit")
    note = f"A sweep; {len(runs)} runs lie below, {failed} of them failed."
    if not rows.empty:
        note += f" `{ROWS_FILE}` among the artifacts has their rows."
    return Entry(
        key=key,
        name=_sweep_name(tags["sweep_id"], start),
        status="FAILED" if failed else "FINISHED",
        start_ms=start,
        end_ms=max(run.entry.end_ms for run in runs),
        series=partial(by_models, rows),
        tags=tagged(
            "sweep",
            {
                "sweep_id": tags["sweep_id"],
                **{name: tags.get(name, "") for name in shared},
                "mlflow.note.content": note,
            },
        ),
        texts={} if rows.empty else {ROWS_FILE: rows.to_csv(index=False)},
    )


def _sweep_name(sweep_id: str, start_ms: int) -> str:
    if sweep_id.startswith("stored/"):
        return f"stored rows of {sweep_id.removeprefix('stored/')}"
    return f"sweep of {datetime.fromtimestamp(start_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def by_models(rows: pd.DataFrame) -> Series:
    """Return the mean attainment of each system; a step is a number of models.

    No series is returned unless the models vary, and no setting but the system and the seed.
    """
    if rows.empty or rows["num_models"].nunique() < 2:
        return {}
    fixed = [n for n in ROWS.of_role("setting") if n not in ("system", "num_models", "seed")]
    if any(rows[name].nunique(dropna=False) > 1 for name in fixed if name in rows):
        return {}
    served = rows.dropna(subset="slo_attainment")
    means = served.groupby(["system", "num_models"], as_index=False)["slo_attainment"].mean()
    columns = (means[name].tolist() for name in ("system", "num_models", "slo_attainment"))
    series: dict[str, list[MetricValue]] = {}
    for system, count, share in zip(*columns, strict=True):
        series.setdefault(f"{BY_MODELS}/{system}", []).append(MetricValue(count, share))
    return series
