"""The JSON files of this package: where they lie, their units, reading and writing."""

from __future__ import annotations

import filecmp
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aegaeon.errors import UserError
from aegaeon.files import write_text
from aegaeon.paths import PROFILES

FOLDER = Path(__file__).resolve().parent
# The folders that profiles are read from, in this order; in a checkout both are one.
FOLDERS = (PROFILES, FOLDER)
SCHEMA = 1
UNITS = "s"


def folder_with(name: Path) -> Path:
    """Return the first of FOLDERS that has a file of this relative name, else the last."""
    return next((folder for folder in FOLDERS if (folder / name).is_file()), FOLDER)


def user_files(names: Iterable[Path]) -> dict[str, Path]:
    """Return the files that are read from a user's folder, by relative name.

    A copy of the file that comes with the code is left out.
    """
    found = {name.as_posix(): folder_with(name) / name for name in names}
    return {name: path for name, path in found.items() if path.is_file() and _is_own(name, path)}


def _is_own(name: str, path: Path) -> bool:
    ours = FOLDER / name
    return not ours.is_file() or not filecmp.cmp(path, ours, shallow=False)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path` in one step; equal contents give equal bytes."""
    write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", path)


def read_json(path: Path, fix: str) -> dict[str, Any]:
    """Return a file's JSON object; `UserError` names `path` and the command `fix`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; make it with `{fix}`") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); make it again with `{fix}`") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold one JSON object; make it again with `{fix}`")
    return content


def unfit(path: Path, why: str, fix: str) -> UserError:
    """Return the error for a file that cannot be used; the command `fix` rewrites the file."""
    return UserError(f"{path}: {why}; make it again with `{fix}`")


def check_number(value: object, key: str, path: Path, fix: str) -> None:
    """Raise `UserError` unless `value` of `key` is a finite number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise unfit(path, f"`{key}` must be a number, found {value!r}", fix)
    if not math.isfinite(value) or value < 0:
        raise unfit(path, f"`{key}` must be finite and >= 0, found {value}", fix)
