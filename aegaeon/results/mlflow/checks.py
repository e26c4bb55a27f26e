"""What a tracking store must satisfy before any run starts. A check writes nothing."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from aegaeon.errors import UserError
from aegaeon.paths import RUNS
from aegaeon.results.secrets import masked

SQLITE = "sqlite:///"
_REVISION = re.compile(r'^(down_)?revision\s*=\s*"(\w+)"', re.MULTILINE)
_WITHOUT = "or run without MLflow: tracking.uri=none"


def command(uri: str, runs_root: Path, *more: str, verb: str = "sync") -> str:
    """Return the `aegaeon results sync` that logs the runs of `runs_root` to `uri`, in quotes.

    `verb` may be `import`.
    """
    words = ["aegaeon", "results", verb, *more]
    if uri != default_uri(runs_root):
        words += ["--tracking", masked(uri)]
    if runs_root.absolute() != RUNS:
        words += ["--runs", str(runs_root.absolute())]
    return f"`{shlex.join(words)}`"


def default_uri(runs_root: Path) -> str:
    """Return the address of the database that `tracking.uri=sqlite` names."""
    return f"{SQLITE}{(runs_root / 'mlflow.db').absolute()}"


def check_store(uri: str, runs_root: Path, again: str = "") -> None:
    """Raise `UserError` unless runs can be logged to `uri`.

    A database is readable, writable and of the installed MLflow's schema; a missing database can
    be made. A server answers as MLflow servers do, and accepts our credentials. `again` is the
    command to repeat once the results exist; before a run, the advice is to run without MLflow.
    """
    if uri.startswith(SQLITE):
        rebuild = command(uri, runs_root, "--rebuild")
        _check_database(Path(uri.removeprefix(SQLITE)), rebuild, again)
    else:
        _check_server(uri, command(uri, runs_root), again)


def _check_database(database: Path, rebuild: str, again: str) -> None:
    other = f"give tracking.uri another path, {_WITHOUT}"
    if again:
        other = f"the results themselves are safe; when that is mended, log them by {again}"
    place = next(folder for folder in database.parents if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UserError(
            f"{database}: MLflow's database cannot be written, as {place} is no folder that you "
            f"may write to; {other}."
        )
    if not database.exists():
        return
    if not database.is_file() or not os.access(database, os.R_OK | os.W_OK):
        raise UserError(
            f"{database}: MLflow's database must be a file that you may read and write; {other}."
        )
    if reason := _unusable(database):
        without = "" if again else f", {_WITHOUT}"
        raise UserError(
            f"{database}: {reason}. The results themselves are safe in the run directories: "
            f"{rebuild} sets the file aside and logs all runs again{without}."
        )


def _unusable(database: Path) -> str:
    """Return why a database cannot be used; empty if MLflow of this version made it."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.DatabaseError as error:
        return f"not a database of MLflow's ({error})"
    found = rows[0][0] if rows else "none"
    expected = _newest_schema()
    if expected in (None, found):
        return ""
    return f"its schema is of another MLflow version (found {found}, expected {expected})"


def _newest_schema() -> str | None:
    """Return the schema version of the installed MLflow; None if MLflow keeps it elsewhere.

    The migrations are read as text: importing MLflow takes more than a second.
    """
    spec = find_spec("mlflow")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        files = (Path(folder) / "store" / "db_migrations" / "versions").glob("*.py")
        found = [match for file in files for match in _REVISION.findall(file.read_text("utf-8"))]
        below = {name for down, name in found if down}
        heads = [name for down, name in found if not down and name not in below]
        return heads[0] if len(heads) == 1 else None
    return None


def _check_server(uri: str, sync: str, again: str) -> None:
    if not urlsplit(uri).hostname:
        raise UserError(f"tracking.uri: '{uri}' names no server; expected http(s)://<host>:<port>.")
    from aegaeon.results.mlflow.writers import probe

    if reason := probe.fault(uri):
        advice = f"Start the server, {_WITHOUT} and log later by {sync}"
        if again:
            advice = f"The results themselves are safe; start the server, then log them by {again}"
        raise UserError(
            f"tracking.uri: {masked(uri)} is no MLflow server that takes runs now "
            f"({masked(reason)}). {advice}."
        )
