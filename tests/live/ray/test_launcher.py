"""`aegaeon cluster --run`: lines carried out here and over ssh, by programs that take notes."""

import os
import socket
import stat
import sys

import pytest
from click.testing import CliRunner

from aegaeon.cli import cli
from aegaeon.errors import UserError
from aegaeon.live.auth import use_auth
from aegaeon.live.ray.launcher import check_port, is_local

NOTE = """#!/bin/sh
echo "{name} $@" >> "{log}"
case "$*" in *get-auth-token) echo secret;; *umask*) cat >> "{log}"; echo >> "{log}";; esac
case "$*" in *"{fails}"*) echo "no such thing" >&2; exit 3;; esac
"""


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """Put a `ray` and an `ssh` that write down what they are asked for before the real ones."""

    def install(fails="nothing fails"):
        for name in ("ray", "ssh"):
            program = tmp_path / name
            program.write_text(NOTE.format(name=name, log=tmp_path / "log", fails=fails))
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return lambda: (tmp_path / "log").read_text().splitlines()

    return install


def aegaeon(*arguments):
    return CliRunner().invoke(cli, arguments)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def test_a_cluster_is_started_head_first_with_one_token_for_all(notes):
    read, here = notes(), socket.gethostname()
    port = free_port()
    cluster = ("cluster", here, "far", "--slots", "2", "--cpu", "--run", "--port", str(port))
    done = aegaeon(*cluster)
    assert done.exit_code == 0
    token, shown, given, secret, head, worker = read()
    assert token == "ray get-auth-token --generate"
    assert shown == "ray get-auth-token"
    assert given.startswith("ssh -o BatchMode=yes far umask 077")
    assert secret == "secret"
    assert head.startswith(f"ray start --head --port={port}")
    assert "ssh -o BatchMode=yes far" in worker
    assert f"--address={here}:{port}" in worker
    assert done.stdout.count("ray start") == 2
    assert "secret" not in done.output


def test_the_first_failure_stops_with_a_message(notes):
    read = notes(fails="start --head")
    port = free_port()
    done = aegaeon("cluster", socket.gethostname(), "far", "--run", "--port", str(port))
    assert done.exit_code == 2
    assert not any("--address" in line for line in read())
    assert "ended with 3: no such thing" in done.stderr


def test_a_cluster_is_stopped_workers_first(notes):
    read = notes()
    stop = ("cluster", "localhost", "far", "--stop", "--run", "--setup", "true")
    assert aegaeon(*stop).exit_code == 0
    assert read() == ["ssh -o BatchMode=yes far true && ray stop", "ray stop"]


def test_without_run_lines_are_only_printed():
    done = aegaeon("cluster", "a", "b", "--stop")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == ["b: ray stop", "a: ray stop"]


def test_a_port_in_use_is_a_message(notes):
    notes()
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} of localhost is not free.*--port"):
            check_port("localhost", port)
        check_port("far", port)
    check_port("localhost", port)


def test_a_head_that_others_cannot_reach_is_refused():
    done = aegaeon("cluster", "localhost", "far")
    assert done.exit_code == 2
    assert "head called localhost" in done.stderr


def test_hosts_of_this_machine():
    assert is_local("localhost")
    assert is_local(socket.gethostname())
    assert not is_local("far")


def test_rays_mode_is_set_before_ray_is_imported_or_refused(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setitem(sys.modules, "ray", os)
    use_auth("token")
    with pytest.raises(UserError, match="imported Ray with RAY_AUTH_MODE=token"):
        use_auth("disabled")
    with pytest.raises(UserError, match="must be one of token, disabled, got 'open'"):
        use_auth("open")
    monkeypatch.delitem(sys.modules, "ray")
    use_auth("disabled")
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
