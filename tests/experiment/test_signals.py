"""A command that is told to stop unwinds once, and says by which signal."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aegaeon.signals import stoppable

ROOT = Path(__file__).parents[2]
BOTH = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def heard():
    """Hear SIGINT, which is ignored where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", BOTH)
def test_only_the_first_signal_is_heard(number, capsys):
    seen = []

    def command():
        try:
            signal.raise_signal(number)
        finally:
            for again in BOTH:
                signal.raise_signal(again)
            seen.append("cleaned up")
        return 0

    before = [signal.getsignal(each) for each in BOTH]
    assert stoppable(command) == 128 + number
    assert seen == ["cleaned up"]
    assert capsys.readouterr().err == f"stopped by {number.name}\n"
    assert [signal.getsignal(each) for each in BOTH] == before


def test_an_undisturbed_command_gives_its_code():
    assert stoppable(lambda: 3) == 3


def test_a_stopped_command_may_raise_something_else():
    def command():
        try:
            signal.raise_signal(signal.SIGTERM)
        except SystemExit as stop:
            raise RuntimeError from stop

    assert stoppable(command) == 128 + signal.SIGTERM


def test_errors_without_a_signal_go_on():
    with pytest.raises(ZeroDivisionError):
        stoppable(lambda: 1 // 0)


def test_what_is_ignored_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert stoppable(lambda: signal.raise_signal(signal.SIGINT) or 0) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_process_ends_with_its_owner():
    script = "import subprocess; subprocess.run({})"
    watched = "import os, sys, time; from aegaeon.signals import end_with; end_with({}); {}"
    say = "print('watching', flush=True); time.sleep(30)"
    inner = [sys.executable, "-c", watched.format("os.getppid()", say)]
    mine = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script.format(inner)]
    with subprocess.Popen(command, env=mine, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "watching\n"
        owner.kill()
        # The pipe ends when no process holds it.
        assert owner.stdout.read() == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [*BOTH, signal.SIGKILL])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_stopped_sweep_ends_with_its_workers(number, jobs, tmp_path):
    command = [
        sys.executable,
        "-m",
        "aegaeon",
        "run",
        "experiment=fig11a",
        "tracking.uri=none",
    ]
    command += [f"paths.runs={tmp_path}", f"hydra.launcher.n_jobs={jobs}"]
    mine = os.environ | {"PYTHONPATH": str(ROOT), "AEGAEON_TEST": str(tmp_path)}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=mine,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, an ignored SIGINT would be inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        until = time.monotonic() + 60
        while not list(tmp_path.glob("fig11a/*/run.json")) and time.monotonic() < until:
            time.sleep(0.1)
        run.send_signal(number)
        killed = number == signal.SIGKILL
        assert run.wait(20) == (-number if killed else 128 + number)
        said = run.stderr.read()
    assert killed or said.splitlines()[-1] == f"stopped by {number.name}"
    assert "Traceback" not in said
    time.sleep(2 if killed else 0.5)
    assert not [p for p in Path("/proc").glob("[0-9]*") if marked(p, str(tmp_path).encode())]


def marked(process, mark):
    """Tell whether a process was started with our mark and still runs."""
    try:
        return mark in (process / "environ").read_bytes() and (process / "cmdline").read_bytes()
    except OSError:
        return False
