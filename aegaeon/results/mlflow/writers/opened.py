"""Opens the writer of a tracking store."""

from __future__ import annotations

from pathlib import Path

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from aegaeon.results.mlflow.checks import SQLITE
from aegaeon.results.mlflow.writers.base import Writer
from aegaeon.results.mlflow.writers.server import ServerWriter
from aegaeon.results.mlflow.writers.sqlite import SqliteWriter, make_database

FAILURES = (MlflowException, SQLAlchemyError)


def writer(uri: str, folder: Path) -> Writer:
    """Return the writer for `uri`; a new SQLite database appears only once it is complete."""
    if not uri.startswith(SQLITE):
        return ServerWriter(uri, None)
    database = Path(uri.removeprefix(SQLITE))
    if not database.exists():
        make_database(database, folder / "artifacts")
    return SqliteWriter(uri, folder / "artifacts")
