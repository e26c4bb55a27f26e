"""Against a real `mlflow server`: artifacts, many parameters, and a server that dies."""

import io
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from urllib.request import urlopen

import pytest
from rich.console import Console

from aegaeon.errors import UserError
from aegaeon.results.mlflow import pages
from aegaeon.results.mlflow.commands import sync_command
from aegaeon.results.mlflow.environment import ENVIRONMENT
from aegaeon.results.record import open_run

pytestmark = pytest.mark.slow


class Server:
    """A server that can be killed and started again over the same store."""

    def __init__(self, folder):
        self.folder = folder
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", str(self.folder / "server")]
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=os.environ | ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + 150
        while time.monotonic() < until and self.process.poll() is None:
            with suppress(OSError), urlopen(f"{self.uri}/health", timeout=2):
                return
            time.sleep(0.2)
        pytest.fail("the server did not start")

    def stop(self):
        pages._end(self.process)


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path)
    made.start()
    yield made
    made.stop()


def runs_of(client, kind):
    place = client.get_experiment_by_name("fig11a")
    return client.search_runs([place.experiment_id], f"tags.kind = '{kind}'")


def sync(server, tmp_path, *names):
    out = Console(file=io.StringIO(), width=200)
    done = sync_command(names, tmp_path / "runs", server.uri, sweep_id="s", console=out)
    assert not done.problems, out.file.getvalue()
    return done.new


def test_runs_reach_a_server_whole_and_a_server_that_dies_leaves_none_running(
    server, tmp_path, row, monkeypatch, capsys
):
    from mlflow.tracking import MlflowClient

    from aegaeon.results.mlflow.writers.server import ServerWriter

    for seed in range(4):
        config = {f"key{i}": "x" * 600 for i in range(150)} | {"seed": seed}
        config["workload"] = {"name": "market"}
        with open_run(tmp_path / "runs", "fig11a", config, sweep_id="s") as record:
            record.finish(row(seed=seed, num_models=16 * (seed + 1)))
    fill, filled = ServerWriter._fill, []

    def dying(writer, run_id, entry):
        if len(filled) == 2:
            server.stop()
        filled.append(entry.key)
        fill(writer, run_id, entry)

    monkeypatch.setattr(ServerWriter, "_fill", dying)
    with pytest.raises(UserError, match=f"MLflow failed.*sync --tracking {server.uri}"):
        sync(server, tmp_path)
    monkeypatch.setattr(ServerWriter, "_fill", fill)
    server.start()
    assert sync(server, tmp_path) == 3
    assert sync(server, tmp_path) == 0
    client = MlflowClient(tracking_uri=server.uri)
    runs, (parent,) = runs_of(client, "run"), runs_of(client, "sweep")
    assert Counter(r.info.status for r in [*runs, parent]) == {"FINISHED": 5}
    assert {r.data.tags["mlflow.parentRunId"] for r in runs} == {parent.info.run_id}
    assert all(r.data.params["key149"] == "x" * 600 for r in runs)
    assert {len(r.inputs.dataset_inputs) for r in runs} == {1}
    names = [[f.path for f in client.list_artifacts(r.info.run_id)] for r in (*runs, parent)]
    assert names == [["run.json"]] * 4 + [["rows.csv"]]
    history = client.get_metric_history(parent.info.run_id, "attainment_by_models/aegaeon")
    assert [m.step for m in history] == [16, 32, 48, 64]
    assert pages.show(server.uri, tmp_path / "runs", 5000) == 0
    assert f"fig11a: runs    {server.uri}/#/experiments/1/runs?" in capsys.readouterr().out
