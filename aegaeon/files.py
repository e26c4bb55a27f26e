"""Files that are complete or absent: all files of this project are written here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from aegaeon.errors import UserError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it replaces `path` if the block succeeds.

    Missing folders are made. No temporary file is left, whether the block succeeds or fails.

    Raises:
        UserError: the operating system refuses the file (no space, no permission, no folder).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{path}: cannot be written ({reason}); check the folder and the room on its disk"
        ) from error
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
