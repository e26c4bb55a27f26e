"""Whether this machine has the cores and the memory for a live run, and no other live run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aegaeon.errors import UserError
from aegaeon.live.memory.shared import PREFIX, SHARED_MEMORY, try_lock
from aegaeon.live.options import LiveOptions, SwitchCostOptions

# Threads per core beyond which instances start for minutes, and every token waits for a core.
THREADS_PER_CORE = 4
# What a process holds after it imported vLLM and torch, without weights and KV.
PROCESS_BYTES = 600 << 20
_LOCK = SHARED_MEMORY / f"{PREFIX}-live.lock"
_OVERRIDE = "or start all the same with backend.overcommit=true"


def check_room(options: LiveOptions, devices: int) -> None:
    """Raise UserError if `devices` processes are too many for this machine's cores or memory."""
    cores, free = len(os.sched_getaffinity(0)), available_memory()
    threads, need = devices * options.threads, devices * PROCESS_BYTES
    if threads > THREADS_PER_CORE * cores:
        raise UserError(
            f"hardware.gpus: {devices} instances' processes with {options.threads} thread(s) each "
            f"are too many for the {cores} core(s) here, {THREADS_PER_CORE} threads per core at "
            f"most; lower hardware.gpus, {_OVERRIDE}"
        )
    if need > free:
        raise UserError(
            f"hardware.gpus: {devices} instances' processes need {need / 1e9:.1f} GB of memory "
            f"in addition to weights and KV, and {free / 1e9:.1f} GB are available here; lower "
            f"hardware.gpus, {_OVERRIDE}"
        )


def available_memory() -> int:
    """Return available bytes; caches that the kernel can drop count as available."""
    kibibytes = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    return int(kibibytes[1]) * 1024 if kibibytes else 0


@contextmanager
def alone(options: LiveOptions | SwitchCostOptions, path: Path = _LOCK) -> Iterator[None]:
    """Hold the machine for a live run that uses this machine alone.

    The kernel drops the lock of a dead process. Raises UserError if another process has the lock.
    """
    local = not isinstance(options, LiveOptions) or options.address == "local"
    if not local or options.overcommit:
        yield
        return
    descriptor = _opened(path)
    try:
        if not try_lock(descriptor, exclusive=True):
            owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            raise UserError(
                f"backend: a live run of process {owner or 'unknown'} uses this machine, and two "
                "would disturb each other; wait for its end (a sweep: hydra.launcher.n_jobs=1), "
                f"{_OVERRIDE}"
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    """Open the lock's file for any user: the lock counts, and the file stays."""
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDWR)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with suppress(PermissionError):
        os.fchmod(descriptor, 0o666)
    return descriptor
