"""Stored files are read and checked once, until they change: claims and figures share tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

# Device, inode, size in bytes and time of the last change in nanoseconds.
_Stamp = tuple[int, int, int, int]
_FRAMES: dict[Path, tuple[_Stamp, pd.DataFrame]] = {}


def once(path: Path, read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return what `read` made of the file; call `read` only if the file is new or has changed.

    The frame is the caller's own: pandas copies a column before it changes. A file that cannot be
    read is not remembered, and the error of `read` goes through.
    """
    stamp = _stamp(path)
    known = _FRAMES.get(path)
    if known is None or stamp is None or known[0] != stamp:
        frame = read()
        if stamp is None:
            return frame
        known = _FRAMES[path] = (stamp, frame)
    return known[1].copy(deep=False)


def _stamp(path: Path) -> _Stamp | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
