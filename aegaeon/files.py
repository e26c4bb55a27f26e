"""Files that are complete or absent: all files of this project are written here."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from aegaeon.errors import UserError
from aegaeon.paths import HOME, HOME_VARIABLE, ROOT, is_checkout

# What the file system says of a place, not of a program's mistake.
_OF_PLACES = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ESTALE"),
        *("ENOTDIR", "EISDIR", "ENAMETOOLONG", "ELOOP", "EMFILE", "ENFILE"),
    )
)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it replaces `path` if the block succeeds.

    Missing folders are made. No temporary file is left, whether the block succeeds or fails.

    Raises:
        UserError: the operating system refuses the file (no space, no permission, no folder), or
            `path` lies in an installed package.
    """
    _refuse_packages(path)
    temporary = path.with_name(f".{uuid4().hex[:12]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        advice = "check the folder and the room on its disk"
        if path.absolute().is_relative_to(HOME):
            advice += f", or set {HOME_VARIABLE}"
        raise UserError(f"{path}: cannot be written ({reason}); {advice}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Replace `path` by UTF-8 `text` in one step; raise `UserError` if that fails."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def replace_between(path: Path, begin: str, end: str, text: str) -> None:
    """Replace the lines between the lines `begin` and `end` of a document by `text`.

    Raises `UserError` if one of the two lines is missing or the file cannot be written.
    """
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    head, first, rest = before.partition(begin)
    _, last, tail = rest.partition(end)
    if not first or not last:
        raise UserError(f"{path}: needs the lines {begin!r} and {end!r} around the table")
    write_text(f"{head}{begin}\n{text}\n{end}{tail}", path)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk on which `folder` lies or would lie."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def of_place(error: OSError) -> str | None:
    """Return a sentence for an error that a disk or a folder causes; None for any other error."""
    if error.errno not in _OF_PLACES:
        return None
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return f"{place}{error.strerror}; check the folder, its permissions and the room on its disk"


def _refuse_packages(path: Path) -> None:
    """Refuse to write among installed packages: pip would remove the file, or leave it for ever."""
    if not is_checkout(ROOT) and path.absolute().is_relative_to(ROOT):
        raise UserError(
            f"{path}: lies among the installed packages; name a folder of your own, or work in a "
            "checkout of the repository"
        )
