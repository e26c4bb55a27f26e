"""Finding the facts, in a second: the code changes nothing and imports no engine."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from importlib import metadata
from pathlib import Path

import numpy as np

from aegaeon.doctor.facts import Database, Facts, Gpu
from aegaeon.doctor.locks import exact_pins, installed, lock_of, read_lock
from aegaeon.files import free_bytes
from aegaeon.live.memory.cleanup import find_leftovers
from aegaeon.live.memory.shared import SHARED_MEMORY
from aegaeon.live.options import LEAST_SLAB_BYTES, LiveOptions
from aegaeon.paths import DATA, ROOT, RUNS, is_checkout
from aegaeon.results.provenance import git_state

_COPY_BYTES = 256 << 20
_COPY_SECONDS = 0.7
_RAY_STORE_BYTES = 100_000_000
_CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_GPU_QUERY = "name,driver_version,pcie.link.gen.max,pcie.link.width.max"
_REVISION = re.compile(r"^(revision|down_revision)\s*(?::[^=]+)?=\s*[\"']([0-9a-f]+)", re.M)


def probe(root: Path = DATA, runs: Path = RUNS) -> Facts:
    """Return the facts of this machine and environment."""
    packages = installed()
    lock, extra = lock_of(packages)
    pins = exact_pins(root / "pyproject.toml", extra or "live")
    locked = read_lock(root / lock) | (pins if extra else {})
    if not is_checkout(root):
        # An installed package comes without the tools of its developers.
        locked = {name: version for name, version in locked.items() if name in packages}
    available, total = _memory()
    shm = shutil.disk_usage(SHARED_MEMORY)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    options, git = LiveOptions(), git_state(ROOT)
    wanted = options.cache_bytes + options.slabs * LEAST_SLAB_BYTES + _RAY_STORE_BYTES
    mode, token = ray_token(os.environ, Path.home())
    return Facts(
        python=sys.version_info[:2],
        installed=packages,
        lock=lock,
        locked=locked,
        live=pins,
        runs_free=free_bytes(runs),
        memory_total=total,
        memory_available=available,
        memcpy_gbps=memcpy_gbps(),
        cores=len(os.sched_getaffinity(0)),
        load=os.getloadavg()[0],
        gpus=_gpus(),
        files_soft=soft,
        files_hard=hard,
        shm_total=shm.total,
        shm_free=shm.free,
        shm_wanted=wanted,
        leftovers=tuple([leftover.nbytes for leftover in find_leftovers()]),
        auth_mode=mode,
        token=token,
        clock_source=_CLOCK.read_text().strip() if _CLOCK.exists() else "unknown",
        clock_resolution=time.get_clock_info("perf_counter").resolution,
        commit=git.sha,
        dirty=git.dirty,
        database=database(runs / "mlflow.db"),
    )


def memcpy_gbps(nbytes: int = _COPY_BYTES, seconds: float = _COPY_SECONDS) -> float:
    """Return the median bandwidth of one thread's copy, in GB copied per second."""
    # The arrays are larger than caches, and all pages are touched before the measurement.
    source, target = np.ones(nbytes, np.uint8), np.zeros(nbytes, np.uint8)
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < seconds:
        start = time.perf_counter()
        np.copyto(target, source)
        taken.append(time.perf_counter() - start)
    return nbytes / float(np.median(taken)) / 1e9


def ray_token(environ: Mapping[str, str], home: Path) -> tuple[str, str | None]:
    """Return (Ray's authentication mode, variable or file of the token), searched as Ray does."""
    mode = environ.get("RAY_AUTH_MODE", LiveOptions().auth)
    if environ.get("RAY_AUTH_TOKEN"):
        return mode, "RAY_AUTH_TOKEN"
    named = environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else home / ".ray" / "auth_token"
    return mode, str(path) if path.is_file() and path.stat().st_size else None


def database(path: Path) -> Database:
    """Return the schema revision of the local MLflow database, and MLflow's newest revision."""
    if not path.exists():
        return Database(None, "")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:
        return Database("", "")
    return Database(rows[0][0] if rows else "", _mlflow_head())


def _mlflow_head() -> str:
    """Return the revision without a successor, read without importing MLflow."""
    try:
        package = metadata.distribution("mlflow-skinny").locate_file("mlflow")
    except metadata.PackageNotFoundError:
        return ""
    revisions: dict[str, set[str]] = {"revision": set(), "down_revision": set()}
    for file in Path(str(package)).glob("store/db_migrations/versions/*.py"):
        for kind, value in _REVISION.findall(file.read_text(encoding="utf-8")):
            revisions[kind].add(value)
    heads = revisions["revision"] - revisions["down_revision"]
    return heads.pop() if len(heads) == 1 else ""


def _memory() -> tuple[int, int]:
    """Return available and total bytes; caches that the kernel can drop count as available."""
    text = Path("/proc/meminfo").read_text()
    kibibytes = dict(re.findall(r"^(\w+):\s+(\d+) kB", text, re.M))
    return int(kibibytes["MemAvailable"]) * 1024, int(kibibytes["MemTotal"]) * 1024


def _gpus() -> tuple[Gpu, ...]:
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", f"--query-gpu={_GPU_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(done.stdout)


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """Parse nvidia-smi's lines: name, driver, PCIe generation and width; 0 if unknown."""
    gpus = []
    for line in filter(None, text.splitlines()):
        name, driver, *link = [field.strip() for field in line.split(",")]
        generation, width = [int(field) if field.isdigit() else 0 for field in link]
        gpus.append(Gpu(name, driver, generation, width))
    return tuple(gpus)
