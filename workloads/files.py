"""Writing a file so that a reader sees the old one or the whole new one."""

from __future__ import annotations

import os
from pathlib import Path

from aegaeon.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 `text` in one step; `UserError` if it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be written ({reason}); check the folder") from error
