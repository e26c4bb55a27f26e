"""Files in POSIX shared memory that the processes of one node map together.

All of a run's files lie in one directory. Its name has a prefix, and the id and start time of the
process that made it. Every process that uses the directory holds a shared lock on it, which the
kernel drops when the process ends: a directory without a lock is a crashed run's (see `cleanup`).
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from aegaeon.errors import UserError

PREFIX = "aegaeon"
SHARED_MEMORY = Path("/dev/shm")
_DEAD = ("Z", "X")


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it does not exist."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def runs(pid: int, started: int) -> bool:
    """Return whether process `pid`, started at `started`, is alive. A zombie is not."""
    fields = _stat(pid)
    return fields is not None and int(fields[19]) == started and fields[0] not in _DEAD


def _stat(pid: int) -> list[str] | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may hold spaces: count fields after its end.
    return stat.rpartition(")")[2].split()


def try_lock(descriptor: int, exclusive: bool) -> bool:
    """Take a file lock without waiting; return whether it was free."""
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Wait for an exclusive lock on an open file and hold it; the kernel drops a dead process's."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def create_file(path: Path, nbytes: int) -> int:
    """Create a file with all its bytes reserved; return a descriptor, or raise UserError.

    Without the reservation a full file system would show as a bus error in a later copy.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, nbytes)
    except OSError as error:
        os.close(descriptor)
        path.unlink()
        if error.errno != errno.ENOSPC:
            raise
        free = shutil.disk_usage(path.parent).free
        raise UserError(
            f"{path.parent}: {nbytes:,} bytes of shared memory are needed, {free:,} are free; "
            "remove leftovers, lower the cache's and pool's sizes, or enlarge the file system"
        ) from error
    return descriptor


def map_file(descriptor: int, nbytes: int) -> mmap.mmap:
    """Map the first `nbytes` of a file for reading and writing, shared among processes."""
    return mmap.mmap(descriptor, nbytes, flags=mmap.MAP_SHARED)


class SharedDirectory:
    """A directory in shared memory; `close` in the process that made it removes the directory."""

    def __init__(self, path: Path, owned: bool) -> None:
        try:
            self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise UserError(f"{path}: no such shared directory; is its owner running?") from error
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        self.path = path
        self._owner = os.getpid() if owned else None
        if owned:
            atexit.register(self.close)
        self._open = True

    @classmethod
    def create(cls, label: str, base: Path = SHARED_MEMORY) -> Self:
        """Make a fresh directory, named after this process and `label`."""
        stem = f"{PREFIX}-{os.getpid()}-{start_time(os.getpid())}-{label}-"
        return cls(Path(tempfile.mkdtemp(prefix=stem, dir=base)), owned=True)

    @classmethod
    def attach(cls, path: Path | str) -> Self:
        """Use a directory that another process of this node made."""
        return cls(Path(path), owned=False)

    def close(self) -> None:
        """Stop using the directory, and remove it as its owner. Mapped memory stays valid."""
        if self._open:
            self._open = False
            os.close(self._lock)
            # A forked child inherits the exit hook, but not the directory.
            if self._owner == os.getpid():
                shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
