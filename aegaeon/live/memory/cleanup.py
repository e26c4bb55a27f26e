"""Finds the shared memory that crashed runs left behind, and removes it."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from aegaeon.live.memory.shared import PREFIX, SHARED_MEMORY, start_time, try_lock

_NAME = re.compile(rf"{PREFIX}-(?P<pid>\d+)-(?P<start>\d+)-.+")


@dataclass(frozen=True, slots=True)
class Leftover:
    """A directory of `nbytes` bytes that process `pid` made and no living process uses."""

    path: Path
    pid: int
    nbytes: int


def find_leftovers(base: Path = SHARED_MEMORY) -> list[Leftover]:
    """Return this user's directories in `base` whose maker is dead and which have no lock."""
    found = []
    for path in sorted(base.glob(f"{PREFIX}-*")):
        match = _NAME.fullmatch(path.name)
        if match is None or start_time(int(match["pid"])) == int(match["start"]):
            continue
        descriptor = _open_if_unused(path)
        if descriptor is not None:
            os.close(descriptor)
            found.append(Leftover(path, int(match["pid"]), _size(path)))
    return found


def remove_leftovers(base: Path = SHARED_MEMORY) -> list[Leftover]:
    """Remove what `find_leftovers` finds and return it; a directory locked meanwhile stays."""
    removed = []
    for leftover in find_leftovers(base):
        descriptor = _open_if_unused(leftover.path)
        if descriptor is not None:
            shutil.rmtree(leftover.path, ignore_errors=True)
            os.close(descriptor)
            removed.append(leftover)
    return removed


def _open_if_unused(path: Path) -> int | None:
    """Open and lock a directory of this user; None if it is another user's, in use, or gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    if os.fstat(descriptor).st_uid == os.getuid() and try_lock(descriptor, exclusive=True):
        return descriptor
    os.close(descriptor)
    return None


def _size(path: Path) -> int:
    return sum([file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file()])
