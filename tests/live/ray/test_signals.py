"""A live run or sweep that is told to stop, at whatever moment, leaves no process and no memory."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.support.live_market import leftovers, ours

pytest.importorskip("ray")
pytest.importorskip("vllm")
pytestmark = [pytest.mark.live, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
RUN = ("experiment=live_kick", "workload.duration_s=60")
SWEEP = ("experiment=live_compare",)


class Command:
    """`aegaeon run` in a process of its own, whose Ray is known by a token."""

    def __init__(self, arguments, runs):
        self.token, self.before, self.runs = uuid.uuid4().hex, leftovers(), runs
        command = [
            sys.executable,
            "-m",
            "aegaeon",
            "run",
            *arguments,
            "tracking.uri=none",
        ]
        wanted = os.environ | {"RAY_AUTH_TOKEN": self.token, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [*command, f"paths.runs={runs}"],
            cwd=ROOT,
            env=wanted,
            stderr=subprocess.PIPE,
            text=True,
            # Where the tests run in the background, an ignored SIGINT would be inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def wait_for(self, moment, then_s):
        """Wait until a moment of the start has come, and some seconds more."""
        until = time.monotonic() + 120
        while not getattr(self, moment)() and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(then_s)
        assert self.process.poll() is None

    def ray(self):
        """Tell whether Ray is being started."""
        return len(ours(self.token, patience_s=0)) > 1

    def engines(self):
        """Tell whether instances are being made."""
        return list(self.runs.glob("*/*/logs/*.log"))

    def opened(self):
        """Tell whether both instances have opened, whereupon the schedulers start."""
        logs = self.engines()
        return len(logs) == 2 and all("Loading safetensors" in log.read_text() for log in logs)

    def stop(self, number, patience_s):
        """Send the signal; check how the command ends and what it leaves."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=patience_s)
        assert self.process.returncode == 128 + number
        assert said.splitlines()[-1] == f"stopped by {number.name}"
        assert "Traceback" not in said
        assert ours(self.token) == []
        assert leftovers() <= self.before


@pytest.fixture
def start(tmp_path):
    """Start commands that do not outlive the test."""
    made = []

    def begin(arguments):
        made.append(Command(arguments, tmp_path))
        return made[-1]

    yield begin
    for command in made:
        command.process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_cleans_up(number, start):
    command = start(RUN)
    command.wait_for("opened", 4)
    assert len(ours(command.token, patience_s=0)) > 4
    command.stop(number, 60)


@pytest.mark.parametrize(
    ("arguments", "number", "moment", "then_s"),
    [
        (RUN, signal.SIGTERM, "ray", 0.0),
        (RUN, signal.SIGINT, "ray", 1.0),
        (RUN, signal.SIGTERM, "engines", 3.0),
        (RUN, signal.SIGINT, "engines", 0.0),
        (SWEEP, signal.SIGTERM, "engines", 6.0),
        (SWEEP, signal.SIGINT, "ray", 0.5),
    ],
)
def test_a_run_stopped_while_it_starts_cleans_up(arguments, number, moment, then_s, start):
    command = start(arguments)
    command.wait_for(moment, then_s)
    command.stop(number, 20)
    assert len(list(command.runs.glob("*/*/run.json"))) == 1
