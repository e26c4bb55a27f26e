"""A live run asks for cores, memory and a machine of its own before anything starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from aegaeon.errors import UserError
from aegaeon.live.options import LiveOptions, SwitchCostOptions
from aegaeon.live.preflight import machine, room
from aegaeon.live.preflight.machine import check_machine
from aegaeon.live.preflight.room import alone, check_room
from tests.support.versions import HERE

ROOT = Path(__file__).parents[3]
HOLD = """
import sys
from pathlib import Path
from aegaeon.live.options import LiveOptions
from aegaeon.live.preflight.room import alone
with alone(LiveOptions(), Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(room.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(room, "available_memory", lambda: 8 << 30)


@pytest.mark.usefixtures("two_cores")
def test_more_instances_than_cores_or_memory_carry_are_refused(monkeypatch):
    check_room(LiveOptions(), 8)
    with pytest.raises(UserError, match=r"40 instances' .* 2 core\(s\) here.*backend.overcommit="):
        check_room(LiveOptions(), 40)
    with pytest.raises(UserError, match=r"hardware.gpus: 4 instances' processes with 3 thread\(s"):
        check_room(LiveOptions(threads=3), 4)
    monkeypatch.setattr(room, "available_memory", lambda: 1 << 30)
    with pytest.raises(UserError, match=r"need 2.5 GB .* 1.1 GB are available here"):
        check_room(LiveOptions(), 4)


@pytest.mark.usefixtures("two_cores")
def test_a_key_overrides_the_refusal_and_a_cluster_has_its_own_room(monkeypatch):
    monkeypatch.setattr(machine, "fingerprint", lambda: HERE)
    with pytest.raises(UserError, match="too many for the 2 core"):
        check_machine(LiveOptions(slabs=1), 40, ())
    check_machine(LiveOptions(slabs=1, overcommit=True), 40, ())
    check_machine(LiveOptions(address="auto"), 40, ())


def test_two_live_runs_at_once_are_refused_until_the_first_is_dead(tmp_path):
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(lock)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as first:
        assert first.stdout.readline() == "held\n"
        says = f"a live run of process {first.pid} uses this machine.*backend.overcommit=true"
        for options in (LiveOptions(), SwitchCostOptions()):
            with pytest.raises(UserError, match=says), alone(options, lock):
                pass
        for options in (LiveOptions(overcommit=True), LiveOptions(address="auto")):
            with alone(options, lock):
                pass
        first.kill()
        first.wait()
        with alone(LiveOptions(), lock):
            assert lock.read_text() != f"{first.pid}\n"
    with alone(LiveOptions(), lock):
        pass
