"""Writing to an MLflow server, run by run, so that a server that dies leaves nothing half done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, Experiment, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from aegaeon.results.mlflow.entry import Entry
from aegaeon.results.mlflow.writers.base import (
    RUN_KEY,
    Found,
    Known,
    all_tags,
    batches,
    log_artifacts,
)

# Has the key of an entry from the start; RUN_KEY follows when everything is in the store.
_BEGUN_KEY = "run_key_begun"
_PARAMS, _METRICS = 100, 1000
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


class ServerWriter:
    """Writes through MLflow's client. `artifacts` None leaves the place of artifacts to it."""

    chunk = 1

    def __init__(self, uri: str, artifacts: Path | None) -> None:
        self.client = MlflowClient(tracking_uri=uri)
        self.artifacts = artifacts
        self._begun: dict[str, str] = {}

    def experiment(self, name: str, tags: Mapping[str, str]) -> Experiment:
        """Return the experiment of this name, with these tags; it is made or restored if needed."""
        found = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        if found is None:
            location = None if self.artifacts is None else (self.artifacts / name).as_uri()
            made = self.client.create_experiment(name, artifact_location=location)
            found = self.client.get_experiment(made)
        for key, text in tags.items():
            if found.tags.get(key) != text:
                self.client.set_experiment_tag(found.experiment_id, key, text)
        return found

    def known(self, experiment_id: str) -> dict[str, Found]:
        """Return the entries that are logged to their end, by key, deleted ones included."""
        found: dict[str, Found] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [experiment_id], run_view_type=ViewType.ALL, page_token=token
            )
            for run in page:
                tags, active = run.data.tags, run.info.lifecycle_stage == "active"
                if key := tags.get(RUN_KEY):
                    found[key] = Found(run.info.run_id, active, run.info.status)
                elif active and (key := tags.get(_BEGUN_KEY)):
                    self._begun[key] = run.info.run_id
            token = page.token
            if not token:
                return found

    def insert(self, place: Experiment, entries: Sequence[Entry], known: Known) -> dict[str, Found]:
        """Add the entries one by one. A run that an earlier attempt began is completed."""
        added: dict[str, Found] = {}
        for entry in entries:
            run_id = self._create(place, entry, {**known, **added})
            # A run that is not complete is FAILED: RUNNING would last if the server died now.
            self.client.set_terminated(run_id, "FAILED", entry.end_ms)
            self._fill(run_id, entry)
            added[entry.key] = Found(run_id, status=entry.status)
        return added

    def _create(self, place: Experiment, entry: Entry, known: Known) -> str:
        if entry.key in self._begun:
            return self._begun[entry.key]
        tags = all_tags(entry, known)
        tags[_BEGUN_KEY] = tags.pop(RUN_KEY)
        run = self.client.create_run(
            place.experiment_id, start_time=entry.start_ms, tags=tags, run_name=entry.name
        )
        return str(run.info.run_id)

    def _fill(self, run_id: str, entry: Entry) -> None:
        for params in batches(entry.params.items(), _PARAMS):
            self.client.log_batch(run_id, params=[Param(*pair) for pair in params])
        for metrics in batches(_metrics(entry), _METRICS):
            self.client.log_batch(run_id, metrics=metrics)
        if entry.datasets:
            read = [Dataset(d.name, d.digest, "local", d.source) for d in entry.datasets]
            self.client.log_inputs(run_id, [DatasetInput(dataset) for dataset in read])
        log_artifacts(self.client, run_id, entry)
        self.client.set_terminated(run_id, entry.status, entry.end_ms)
        self.client.log_batch(run_id, tags=[RunTag(RUN_KEY, entry.key)])

    def extend(self, run_id: str, entry: Entry) -> None:
        """Give a logged sweep the state of `entry`; a deleted sweep is restored."""
        self.client.restore_run(run_id)
        self.client.log_batch(run_id, tags=[RunTag(*pair) for pair in entry.tags.items()])
        self._extend_series(run_id, entry)
        log_artifacts(self.client, run_id, entry)
        self.client.set_terminated(run_id, entry.status, entry.end_ms)

    def _extend_series(self, run_id: str, entry: Entry) -> None:
        """Add the steps that a series lacks, and the steps whose value has changed since."""
        for name, samples in entry.series().items():
            past = self.client.get_metric_history(run_id, name)
            had = {metric.step: metric.value for metric in past}
            new = [s for s in samples if had.get(s.step) != s.value]
            for some in batches(new, _METRICS):
                metrics = [Metric(name, s.value, entry.end_ms, s.step) for s in some]
                self.client.log_batch(run_id, metrics=metrics)

    def remove(self, run_ids: Sequence[str]) -> None:
        """Delete runs, as a click on *Delete* does; the server keeps them as deleted."""
        for run_id in run_ids:
            self.client.delete_run(run_id)

    def refuses(self, error: Exception) -> bool:
        """Return whether the server finds fault with what it was sent."""
        return isinstance(error, MlflowException) and error.error_code in _REFUSALS


def _metrics(entry: Entry) -> Iterator[Metric]:
    for name, value in entry.metrics.items():
        yield Metric(name, value, entry.end_ms, 0)
    for name, samples in entry.series().items():
        for sample in samples:
            yield Metric(name, sample.value, entry.end_ms, sample.step)
