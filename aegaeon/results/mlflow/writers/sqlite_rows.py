"""The rows that entries become in MLflow's SQLite tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from mlflow.entities import Experiment
from mlflow.store.tracking.dbmodels.models import (
    SqlDataset,
    SqlInput,
    SqlLatestMetric,
    SqlMetric,
    SqlParam,
    SqlRun,
    SqlTag,
)

from aegaeon.results.mlflow.entry import Entry
from aegaeon.results.mlflow.writers.base import Found, Known, all_tags

OF_RUN = (SqlParam, SqlTag, SqlMetric, SqlLatestMetric)
Row = dict[str, Any]


class Rows:
    """Rows by table, in the order in which they can be inserted.

    Attributes:
        tables: the rows.
        added: the entries, by key.
    """

    def __init__(
        self, place: Experiment, known: Known, datasets: Mapping[tuple[str, str], str]
    ) -> None:
        order = (SqlRun, *OF_RUN, SqlDataset, SqlInput)
        self.tables: dict[Any, list[Row]] = {table: [] for table in order}
        self.added: dict[str, Found] = {}
        self._place = place
        self._known = known
        self._datasets = dict(datasets)

    def add(self, entry: Entry) -> None:
        """Add the rows of an entry."""
        run = uuid4().hex
        self.added[entry.key] = Found(run, status=entry.status)
        self.tables[SqlRun].append(_run_row(entry, run, self._place))
        self.tables[SqlParam] += _pairs(entry.params, run)
        self.tables[SqlTag] += _pairs(all_tags(entry, {**self._known, **self.added}), run)
        for table, rows in metric_rows(entry, run).items():
            self.tables[table] += rows
        self._add_inputs(entry, run)

    def _add_inputs(self, entry: Entry, run: str) -> None:
        for dataset in entry.datasets:
            name = (dataset.name, dataset.digest)
            if name not in self._datasets:
                self._datasets[name] = uuid4().hex
                self.tables[SqlDataset].append(
                    {
                        "dataset_uuid": self._datasets[name],
                        "experiment_id": int(self._place.experiment_id),
                        "name": dataset.name,
                        "digest": dataset.digest,
                        "dataset_source_type": "local",
                        "dataset_source": dataset.source,
                    }
                )
            self.tables[SqlInput].append(
                {
                    "input_uuid": uuid4().hex,
                    "source_type": "DATASET",
                    "source_id": self._datasets[name],
                    "destination_type": "RUN",
                    "destination_id": run,
                }
            )


def metric_rows(entry: Entry, run: str) -> dict[Any, list[Row]]:
    """Return the rows of the metrics, with all steps, and the rows of their last values."""
    steps = [(name, 0, value) for name, value in entry.metrics.items()]
    for name, samples in entry.series().items():
        steps += [(name, sample.step, sample.value) for sample in samples]
    rows: list[Row] = [
        {"run_uuid": run, "key": name, "value": value, "step": step}
        | {"timestamp": entry.end_ms, "is_nan": False}
        for name, step, value in steps
    ]
    last = {row["key"]: row for row in sorted(rows, key=lambda row: row["step"])}
    return {SqlMetric: rows, SqlLatestMetric: list(last.values())}


def of_state(entry: Entry, run: str) -> dict[Any, list[Row]]:
    """Return the rows of what may change when a sweep gains runs: tags and metrics."""
    return {SqlTag: _pairs(entry.tags, run), **metric_rows(entry, run)}


def _pairs(values: Mapping[str, object], run: str) -> list[Row]:
    return [{"run_uuid": run, "key": key, "value": value} for key, value in values.items()]


def _run_row(entry: Entry, run: str, place: Experiment) -> Row:
    return {
        "run_uuid": run,
        "name": entry.name,
        "source_type": "LOCAL",
        "source_name": "",
        "entry_point_name": "",
        "user_id": entry.tags.get("mlflow.user", ""),
        "status": entry.status,
        "start_time": entry.start_ms,
        "end_time": entry.end_ms,
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": entry.artifact_uri or f"{place.artifact_location}/{run}/artifacts",
        "experiment_id": int(place.experiment_id),
    }
