"""The two ways to write into MLflow: through a server, or straight into a SQLite database.

This module imports mlflow, which is slow. Only `tracker` loads this module, and only when needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from mlflow.entities import Experiment, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.models import (
    SqlLatestMetric,
    SqlMetric,
    SqlParam,
    SqlRun,
    SqlTag,
)
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from sqlalchemy import insert, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from aegaeon.files import atomic
from aegaeon.results.mlflow.entries import Entry

FAILURES = (MlflowException, SQLAlchemyError)
RUN_KEY = "run_key"
_SQLITE = "sqlite:///"


class Writer(Protocol):
    """Writes ended runs into a store."""

    def experiment(self, name: str) -> Experiment:
        """Return the experiment of this name; create or restore the experiment if needed."""
        ...

    def known(self, experiment_id: str) -> dict[str, str]:
        """Return entry key -> run id of all logged entries, deleted runs included."""
        ...

    def insert(
        self, place: Experiment, entries: Sequence[Entry], known: dict[str, str]
    ) -> dict[str, str]:
        """Add the entries; return key -> run id.

        The parent of an entry must be in `known`, or must come before the entry.
        """
        ...

    def extend(self, run_id: str, entry: Entry) -> None:
        """Give a logged sweep the status and the end of `entry`; a deleted sweep is restored."""
        ...


def open_writer(uri: str, folder: Path) -> Writer:
    """Return the writer for `uri`; a new SQLite database appears only once it is complete."""
    if not uri.startswith(_SQLITE):
        return ServerWriter(uri, None)
    database = Path(uri.removeprefix(_SQLITE))
    if not database.exists():
        location = str(folder / "artifacts")
        with atomic(database) as temporary:
            store = SqlAlchemyStore(f"{_SQLITE}{temporary}", location)  # type: ignore[no-untyped-call]
            store.engine.dispose()
    return SqliteWriter(uri, folder / "artifacts")


class ServerWriter:
    """Writes through MLflow's client, run by run: for a tracking server."""

    def __init__(self, uri: str, artifacts: Path | None) -> None:
        self.client = MlflowClient(tracking_uri=uri)
        self.artifacts = artifacts

    def experiment(self, name: str) -> Experiment:
        """Return the experiment of this name; create or restore the experiment if needed."""
        found = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        if found is None:
            location = None if self.artifacts is None else (self.artifacts / name).as_uri()
            made = self.client.create_experiment(name, artifact_location=location)
            found = self.client.get_experiment(made)
        return found

    def known(self, experiment_id: str) -> dict[str, str]:
        """Return entry key -> run id of all logged entries, deleted runs included."""
        found: dict[str, str] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [experiment_id], run_view_type=ViewType.ALL, page_token=token
            )
            for run in page:
                if key := run.data.tags.get(RUN_KEY):
                    found[key] = run.info.run_id
            token = page.token
            if not token:
                return found

    def insert(
        self, place: Experiment, entries: Sequence[Entry], known: dict[str, str]
    ) -> dict[str, str]:
        """Add the entries one by one; each costs three requests."""
        added: dict[str, str] = {}
        for entry in entries:
            tags = _all_tags(entry, known | added)
            key_tag = {RUN_KEY: tags.pop(RUN_KEY)}
            run = self.client.create_run(
                place.experiment_id, start_time=entry.start_ms, tags=tags, run_name=entry.name
            )
            run_id = run.info.run_id
            metrics = [Metric(k, v, entry.end_ms, 0) for k, v in entry.metrics.items()]
            params = [Param(k, v) for k, v in entry.params.items()]
            self.client.log_batch(run_id, metrics, params, [RunTag(*t) for t in key_tag.items()])
            self.client.set_terminated(run_id, entry.status, entry.end_ms)
            added[entry.key] = run_id
        return added

    def extend(self, run_id: str, entry: Entry) -> None:
        """Give a logged sweep the status and the end of `entry`; a deleted sweep is restored."""
        self.client.restore_run(run_id)
        self.client.set_terminated(run_id, entry.status, entry.end_ms)


class SqliteWriter(ServerWriter):
    """Writes straight into MLflow's tables, in one transaction: 14 times as fast as the client."""

    def known(self, experiment_id: str) -> dict[str, str]:
        """Return entry key -> run id of all logged entries, deleted runs included."""
        query = text(
            "SELECT tags.value, tags.run_uuid FROM tags JOIN runs USING (run_uuid) "
            "WHERE runs.experiment_id = :experiment AND tags.key = :key"
        )
        chosen = {"experiment": int(experiment_id), "key": RUN_KEY}
        with self._session(read_only=True) as session:
            return {row.value: row.run_uuid for row in session.execute(query, chosen)}

    def insert(
        self, place: Experiment, entries: Sequence[Entry], known: dict[str, str]
    ) -> dict[str, str]:
        """Add all entries or none."""
        ids = {entry.key: uuid4().hex for entry in entries}
        rows: dict[type, list[dict[str, Any]]] = {
            table: [] for table in (SqlRun, SqlParam, SqlTag, SqlMetric, SqlLatestMetric)
        }
        for entry in entries:
            run = ids[entry.key]
            rows[SqlRun].append(_run_row(entry, run, place))
            rows[SqlParam] += _pairs(entry.params, run)
            rows[SqlTag] += _pairs(_all_tags(entry, known | ids), run)
            metrics = [
                {**row, "timestamp": entry.end_ms, "step": 0, "is_nan": False}
                for row in _pairs(entry.metrics, run)
            ]
            rows[SqlMetric] += metrics
            rows[SqlLatestMetric] += metrics
        with self._session(read_only=False) as session:
            for table, values in rows.items():
                if values:
                    session.execute(insert(table), values)
        return ids

    def _session(self, *, read_only: bool) -> AbstractContextManager[Session]:
        store = self.client._tracking_client.store
        session: AbstractContextManager[Session] = store.ManagedSessionMaker(read_only=read_only)
        return session


def _all_tags(entry: Entry, ids: dict[str, str]) -> dict[str, str]:
    tags = {**entry.tags, RUN_KEY: entry.key, MLFLOW_RUN_NAME: entry.name}
    if entry.parent is not None:
        tags[MLFLOW_PARENT_RUN_ID] = ids[entry.parent]
    return tags


def _pairs(values: Mapping[str, object], run: str) -> list[dict[str, Any]]:
    return [{"run_uuid": run, "key": key, "value": value} for key, value in values.items()]


def _run_row(entry: Entry, run: str, place: Experiment) -> dict[str, Any]:
    return {
        "run_uuid": run,
        "name": entry.name,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "user_id": "",
        "status": entry.status,
        "start_time": entry.start_ms,
        "end_time": entry.end_ms,
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": entry.artifact_uri or f"{place.artifact_location}/{run}/artifacts",
        "experiment_id": int(place.experiment_id),
    }
