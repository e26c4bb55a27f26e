"""The key of a run: a hash of what its configuration means, not of how it was written."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from aegaeon.errors import UserError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

EXCLUDED = frozenset({"paths", "tracking", "hydra", "tags", "keep"})
_EXACT_INTEGERS = 2.0**53


def config_hash(config: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that name `config` (resolved, as plain containers).

    The top-level keys in `EXCLUDED` do not count, since they say where results go, and which of
    them are stored, not what they are. The order of keys does not matter, and 1 and 1.0 are one
    number.
    """
    relevant = {key: value for key, value in config.items() if key not in EXCLUDED}
    text = json.dumps(_canonical(jsonable(relevant)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def jsonable(value: object, key: str = "config") -> Json:
    """Return `value` as JSON can hold it: infinities and paths as text; else raise `UserError`."""
    if isinstance(value, Mapping):
        return {str(name): jsonable(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item, f"{key}.{index}") for index, item in enumerate(value)]
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UserError(
        f"{key}: a {type(value).__name__} cannot be recorded; expected a number, text, list or "
        "mapping. Resolve the configuration to plain containers first."
    )


def _canonical(value: Json) -> Json:
    """Write whole floats as integers, as a command line gives 1 where a file gives 1.0."""
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_INTEGERS:
        return int(value)
    return value
