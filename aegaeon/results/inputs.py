"""Digests of the files that a configuration names. A digest counts in place of a path."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aegaeon.errors import UserError

# (group, key) of each setting that is the path of an input file.
FILES = (("workload", "path"),)


def input_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the digest of every file that `config` names, by dotted key; may be empty.

    Relative paths start at the working directory. Raises `UserError` for an unreadable file.
    """
    return {key: file_digest(path, key) for key, path in input_files(config).items()}


def input_files(config: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files that `config` names, by dotted key."""
    named = {f"{group}.{key}": config.get(group, {}).get(key) for group, key in FILES}
    return {key: Path(path) for key, path in named.items() if path is not None}


def file_digest(path: Path, key: str) -> str:
    """Return `sha256:` and the digest of a file's bytes.

    Raises `UserError` with `key` if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise UserError(
            f"{key}: {path} cannot be read ({error.strerror}); give the path of a file, relative "
            "to the working directory or absolute"
        ) from error
