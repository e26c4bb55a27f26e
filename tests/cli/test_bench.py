"""`aegaeon bench` refuses what it cannot measure before it measures."""

import subprocess
import sys

import pytest

BAD = [
    ("live --rounds 0", "'--rounds': 0 is not in the range"),
    ("live --models 2", "'--models': 2 is not in the range"),
    ("live --megabytes 0", "'--megabytes': 0 is not in the range"),
    ("live --only x", "'--only': 'x' is not one of 'weights', 'kv', 'engines', 'pooling'"),
    ("live --store --only kv", "--store keeps every number"),
    ("live --store --out x", "--store keeps every number"),
    ("memory --repeats 0", "'--repeats': 0 is not in the range"),
    ("kernels --repeats 0", "'--repeats': 0 is not in the range"),
    ("kernels --device tpu", "'tpu' is not one of 'cpu', 'cuda'"),
]
BLIND = """import sys; sys.modules['torch'] = None
from aegaeon.cli import cli; cli.main(['bench', {!r}])"""


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments_are_refused(arguments, message, aegaeon):
    done = aegaeon("bench", *arguments.split())
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize("name", ["live", "memory", "kernels"])
def test_without_torch_the_message_says_what_to_install(name):
    command = [sys.executable, "-c", BLIND.format(name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: torch is not installed")
    assert done.stderr.endswith("`make live-setup`\n")


def test_the_simulator_is_timed(monkeypatch, aegaeon):
    seen = []
    monkeypatch.setattr("aegaeon.bench.bench", lambda large: seen.append(large))
    assert aegaeon("bench", "sim", "--large").exit_code == 0
    assert seen == [True]


def test_kernels_name_a_device_that_is_not_there(aegaeon):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = aegaeon("bench", "kernels", "--device", "cuda")
    assert done.exit_code == 2
    assert "torch finds no CUDA device; use --device cpu" in done.stderr
