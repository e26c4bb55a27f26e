"""`aegaeon mlflow`: MLflow's pages, served over a local database, and links that show runs."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from rich.console import Console

from aegaeon.errors import UserError
from aegaeon.results.mlflow import view
from aegaeon.results.mlflow.checks import SQLITE, command
from aegaeon.results.mlflow.environment import ENVIRONMENT
from aegaeon.results.mlflow.tracker import Tracker, connect
from aegaeon.results.secrets import masked

_HOST = "127.0.0.1"
_START_SECONDS = 120
_STOP_SECONDS = 5
_WITH_RUNS = (
    "SELECT experiments.name, experiments.experiment_id "
    "FROM experiments JOIN runs USING (experiment_id) "
    "WHERE experiments.lifecycle_stage = 'active' AND runs.lifecycle_stage = 'active' "
    "GROUP BY experiments.name ORDER BY max(runs.end_time) DESC"
)


def show(tracking: str, runs_root: Path, port: int, *, browse: bool = False) -> int:
    """Print a link per experiment, and serve a local database until the server ends.

    Returns the server's exit code, or 0 where a server runs already. Raises `UserError` if nothing
    is logged, the store cannot be used, or the port is taken.
    """
    tracker = connect(tracking, runs_root)
    if tracker is None:
        raise UserError("--tracking: 'none' has no pages; give sqlite or a server's address.")
    database = Path(tracker.uri.removeprefix(SQLITE))
    if tracker.uri.startswith(SQLITE) and not database.exists():
        raise UserError(
            f"{database}: no runs yet; `aegaeon results import` loads the stored ones, "
            "`aegaeon run` makes new ones"
        )
    tracker.check(command(tracker.uri, runs_root))
    if not tracker.uri.startswith(SQLITE):
        from aegaeon.results.mlflow.writers import probe

        found = probe.experiments_with(tracker.uri, f"{view.TAG}{view.TABLE}")
        _print_links(tracker.uri, found, browse)
        return 0
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        local = dict(connection.execute(_WITH_RUNS).fetchall())
    with _server(tracker, port) as server:
        address = f"http://{_HOST}:{port}"
        if not _answers(server, f"{address}/health"):
            _end(server)
            raise UserError(
                f"MLflow's server did not start; {_log(tracker)} says why. Another port may help: "
                f"`aegaeon mlflow --port {port % 65535 + 1}`"
            )
        _print_links(address, local, browse)
        _print("Ctrl-C ends the server")
        return server.wait()


def _print_links(address: str, experiments: Mapping[str, int | str], browse: bool) -> None:
    for name, number in experiments.items():
        _print(f"{name}: runs    {view.table_link(masked(address), str(number))}")
        _print(f"{'':{len(name)}}  charts  {view.charts_link(masked(address), str(number))}")
    if browse and experiments:
        webbrowser.open(view.table_link(address, str(next(iter(experiments.values())))))


def _print(line: str) -> None:
    Console().print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _server(tracker: Tracker, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server in a process group of its own, and end the whole group."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise UserError(
                f"--port: {port} cannot be served ({error.strerror}); another server may run "
                f"there. Give another one: `aegaeon mlflow --port {port % 65535 + 1}`"
            ) from error
    serve = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", _HOST]
    serve += ["--backend-store-uri", tracker.uri, "--port", str(port)]
    serve += ["--artifacts-destination", (tracker.folder / "artifacts").as_uri()]
    with _log(tracker).open("wb") as output:
        server = subprocess.Popen(
            serve,
            env=os.environ | ENVIRONMENT,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield server
    finally:
        _end(server)


def _log(tracker: Tracker) -> Path:
    return tracker.folder / "mlflow-server.log"


def _end(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(_STOP_SECONDS)


def _answers(server: subprocess.Popen[bytes], address: str) -> bool:
    """Wait until the server answers; return False if the server ended or stays silent."""
    until = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < until:
        with suppress(URLError, OSError), urlopen(address, timeout=2):
            return True
        time.sleep(0.2)
    return False
