"""Questions to an MLflow server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from aegaeon.errors import first_line

_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


def fault(uri: str) -> str:
    """Return why a server cannot be asked; empty if it answers and accepts our credentials."""
    try:
        with _impatient():
            MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except (MlflowException, OSError, ValueError) as error:
        return first_line(error)
    return ""


def experiments_with(uri: str, tag: str) -> dict[str, str]:
    """Return the ids of the experiments that have a tag, by name; the newest first."""
    found = MlflowClient(tracking_uri=uri).search_experiments(order_by=["last_update_time DESC"])
    return {each.name: each.experiment_id for each in found if tag in each.tags}


@contextmanager
def _impatient() -> Iterator[None]:
    """Let MLflow's requests fail soon."""
    before = {name: os.environ.get(name) for name in _IMPATIENT}
    os.environ.update(_IMPATIENT)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
