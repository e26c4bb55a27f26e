"""What writes into a tracking store, and what the two ways to write share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Protocol, TypeVar

from mlflow.entities import Experiment
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from aegaeon.results.mlflow.entry import Entry

RUN_KEY = "run_key"
Item = TypeVar("Item")
Place = Experiment


class Found(NamedTuple):
    """An entry that the store has: its run, whether people see it, and its status."""

    run_id: str
    active: bool = True
    status: str = "FINISHED"


Known = Mapping[str, Found]


class Writer(Protocol):
    """Writes ended runs into a store. `chunk` is the number of entries that it takes at once."""

    chunk: int

    def experiment(self, name: str, tags: Mapping[str, str]) -> Experiment:
        """Return the experiment of this name, with these tags; it is made or restored if needed."""
        ...

    def known(self, experiment_id: str) -> dict[str, Found]:
        """Return the entries that are logged to their end, by key, deleted ones included."""
        ...

    def insert(self, place: Experiment, entries: Sequence[Entry], known: Known) -> dict[str, Found]:
        """Add the entries, all or none, and return them by key.

        The parent of an entry must be in `known`, or must come before the entry.
        """
        ...

    def extend(self, run_id: str, entry: Entry) -> None:
        """Give a logged sweep the state of `entry`; a deleted sweep is restored."""
        ...

    def remove(self, run_ids: Sequence[str]) -> None:
        """Take runs that other runs replace out of sight."""
        ...

    def refuses(self, error: Exception) -> bool:
        """Return whether an error is about the entry that was written, not about the store."""
        ...


def all_tags(entry: Entry, known: Known) -> dict[str, str]:
    """Return the tags of an entry, MLflow's own for name and parent included."""
    tags = {**entry.tags, RUN_KEY: entry.key, MLFLOW_RUN_NAME: entry.name}
    if entry.parent is not None:
        tags[MLFLOW_PARENT_RUN_ID] = known[entry.parent].run_id
    return tags


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of at most `size`."""
    rest = list(items)
    for start in range(0, len(rest), size):
        yield rest[start : start + size]


def log_artifacts(client: MlflowClient, run_id: str, entry: Entry) -> None:
    """Copy the files of an entry, as far as they exist, and its texts into the store's space."""
    for path, folder in entry.files:
        if path.is_file():
            client.log_artifact(run_id, str(path), folder or None)
    for name, text in entry.texts.items():
        with TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text(text, encoding="utf-8")
            client.log_artifact(run_id, str(path))
