"""A live run that is told to stop leaves no process and no shared memory."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from live_market import leftovers, ours

pytest.importorskip("ray")
pytest.importorskip("vllm")
pytestmark = [pytest.mark.live, pytest.mark.slow]

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_cleans_up(number, tmp_path):
    token, before = uuid.uuid4().hex, leftovers()
    command = [sys.executable, "-m", "aegaeon.run", "experiment=live_kick", "tracking.uri=none"]
    command += ["workload.duration_s=60", f"paths.runs={tmp_path}"]
    wanted = os.environ | {"RAY_AUTH_TOKEN": token, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=wanted, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 90
        # Once both instances have opened, the schedulers start.
        while not _opened(tmp_path) and time.monotonic() < until:
            time.sleep(0.5)
        time.sleep(4)
        assert process.poll() is None
        assert len(ours(token, patience_s=0)) > 4
        process.send_signal(number)
        assert process.wait(60) != 0
    assert ours(token) == []
    assert leftovers() <= before


def _opened(runs: Path) -> bool:
    logs = list(runs.glob("live_kick/*/logs/*.log"))
    return len(logs) == 2 and all("Loading safetensors" in log.read_text() for log in logs)
