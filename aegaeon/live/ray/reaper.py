"""Kills a dead instance's processes, before other instances get the memory they wrote to."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from aegaeon.live.memory.shared import runs, start_time

_RANK = b"aegaeon.live.tp.rank_process"
_LOOK_S = 0.01

Process = tuple[int, int]


def end(process: Process, patience_s: float) -> None:
    """Kill the process (id, start time) and its ranks, and wait until all have ended.

    Raises TimeoutError if a process runs after `patience_s` seconds.
    """
    left = [process, *ranks_of(process[0])]
    until = time.monotonic() + patience_s
    while left := [each for each in left if runs(*each)]:
        for pid, _ in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            raise TimeoutError(f"processes {[pid for pid, _ in left]} do not end")
        time.sleep(_LOOK_S)


def ranks_of(pid: int) -> list[Process]:
    """Return the other ranks of a tensor-parallel instance whose rank 0 is process `pid`.

    The last argument of a rank's command line is `pid`. Ranks end by themselves after the death of
    rank 0, but may finish a copy first.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            started = start_time(int(folder.name))
            if _RANK in words and words[-1] == str(pid).encode() and started is not None:
                found.append((int(folder.name), started))
    return found
