"""What is refused before any run starts, and the advice that is printed."""

import os
import re
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aegaeon.cli import cli
from aegaeon.errors import UserError
from aegaeon.results.mlflow import checks
from aegaeon.results.mlflow.commands import import_command, sync_command
from aegaeon.results.mlflow.tracker import connect

REBUILD = r"`aegaeon results sync --rebuild --runs \S+` sets the file aside"


def refused(folder: Path, pattern: str, target: str = "sqlite") -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match=pattern) as caught:
        connect(target, folder).check()
    assert sorted(folder.rglob("*")) == before
    for advice in re.findall(r"`aegaeon ([^`]+)`", str(caught.value)):
        command = cli
        for word in advice.split():
            if word.startswith("-"):
                assert word in {name for p in command.params for name in p.opts}
            elif command is not None and word in getattr(command, "commands", {}):
                command = command.commands[word]


def test_targets_that_cannot_be_used_are_refused(tmp_path):
    assert connect("none", tmp_path) is None
    assert connect("sqlite:///rel/a.db", tmp_path).uri == f"sqlite:///{Path('rel/a.db').absolute()}"
    assert connect("http://head:5000", tmp_path).folder == tmp_path
    for wrong in ("file:mlruns", "mlruns", "sqlite:///", "postgresql://me:pw@head/db"):
        with pytest.raises(UserError, match=r"tracking\.uri: '.*' is not understood") as caught:
            connect(wrong, tmp_path)
        assert "pw" not in str(caught.value)
    with pytest.raises(UserError, match="no stored table"):
        import_command(tmp_path, "sqlite", tmp_path)


def test_a_database_that_is_absent_or_of_this_mlflow_is_good(database, tmp_path):
    connect("sqlite", database.parent).check()
    connect("sqlite", tmp_path / "nowhere" / "yet").check()
    assert not (tmp_path / "nowhere").exists()


def test_the_newest_schema_is_read_without_mlflow(empty_database):
    with closing(sqlite3.connect(empty_database)) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [
            (checks._newest_schema(),)
        ]


def test_databases_that_mlflow_would_choke_on_are_refused_with_advice(tmp_path, empty_database):
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"nonsense" * 100)
    refused(tmp_path, f"not a database of MLflow's.*{REBUILD}")
    database.unlink()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE experiments (nonsense TEXT)")
    refused(tmp_path, f"no such table: alembic_version.*{REBUILD}")
    shutil.copy(empty_database, database)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'cfd24bdc0731'")
    refused(tmp_path, f"another MLflow version .found cfd24bdc0731.*{REBUILD}")
    database.unlink()
    database.mkdir()
    refused(tmp_path, "must be a file")
    file = tmp_path / "file"
    file.touch()
    refused(tmp_path, "is no folder that you may write to", f"sqlite:///{file}/a.db")


def test_a_server_that_is_down_or_has_no_name_is_refused(tmp_path):
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        refused(
            tmp_path,
            rf"http://me:\*\*\*@127.0.0.1:{port} is no MLflow server.*tracking.uri=none and log",
            f"http://me:pw@127.0.0.1:{port}",
        )
    refused(tmp_path, "names no server", "http://")
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ or (
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] != "0"
    )


def test_results_that_exist_are_logged_later_and_not_run_without_mlflow(tmp_path):
    (tmp_path / "a.parquet").touch()
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        said = {}
        with pytest.raises(UserError) as caught:
            sync_command((), tmp_path, uri)
        said["sync"] = str(caught.value)
        with pytest.raises(UserError) as caught:
            import_command(tmp_path, uri, tmp_path)
        said["import"] = str(caught.value)
    for verb, text in said.items():
        assert f"are safe; start the server, then log them by `aegaeon results {verb} --" in text
        assert "tracking.uri=none" not in text


def test_a_broken_store_in_the_middle_leaves_advice(tmp_path):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE experiments (nonsense TEXT)")
    with pytest.raises(UserError, match=r"mlflow\.db: MLflow failed.*`aegaeon results sync"):
        connect("sqlite", tmp_path).log("fig11a", [])
