"""The name of a run: a hash of the meaning of its configuration, not of the way to write it.

This is version 2. A configuration key at its introduced default does not count, so a new key
leaves the hash of every stored row unchanged. runs/README.md explains a run's identity.
aegaeon/results/rehash translates version 1.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from aegaeon.errors import UserError
from aegaeon.results.introduced import KeyPath, ledger_entry

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

VERSION = 2
EXCLUDED = frozenset({"paths", "tracking", "hydra", "tags", "keep"})
_EXACT_INTEGERS = 2.0**53


def config_hash(config: Mapping[str, Any], inputs: Mapping[str, str] | None = None) -> str:
    """Return 16 hexadecimal digits that name a run of `config` (resolved, as plain containers).

    `inputs` maps a name to the digest of content outside the configuration, such as a trace file.
    An input with the name of a key counts in place of the key. The order of keys does not matter.
    1 and 1.0 are one number. Raises `UserError` for a value that JSON cannot hold.
    """
    digests: dict[str, Json] = dict(inputs or {})
    settings: dict[str, Json] = {}
    for path, value in leaves(canonical(jsonable(counted(config)))):
        key = ".".join(name.replace("\\", r"\\").replace(".", r"\.") for name in path)
        if key not in digests and not as_introduced(path, value):
            settings[key] = value
    return short_digest({"version": VERSION, "settings": settings, "inputs": digests})


def point_hash(config: Mapping[str, Any], inputs: Mapping[str, str] | None = None) -> str:
    """Return the hash of a run's configuration without its seed: the name of the run's point."""
    return config_hash({key: value for key, value in config.items() if key != "seed"}, inputs)


def counted(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that identifies a run.

    The top-level keys in `EXCLUDED` choose where results go, and which tables are stored.
    `host_pool` shapes the table `pool` only, and counts only if the run keeps that table.
    """
    idle = EXCLUDED if "pool" in config.get("keep", ()) else EXCLUDED | {"host_pool"}
    return {key: value for key, value in config.items() if key not in idle}


def jsonable(value: object, key: str = "config") -> Json:
    """Return `value` in a form that JSON can hold: infinities and paths become text.

    Raises `UserError` with `key` for any other type.
    """
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


def canonical(value: Json) -> Json:
    """Return `value` with whole floats as integers: a command line gives 1, a file gives 1.0."""
    if isinstance(value, dict):
        return {name: canonical(item) for name, item in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_INTEGERS:
        return int(value)
    return value


def as_introduced(path: KeyPath, value: Json) -> bool:
    """Return whether a key has its introduced default; `value` is canonical."""
    entry = ledger_entry(path)
    # The comparison is of text, as True equals 1 in Python.
    return entry is not None and _text(canonical(entry.default)) == _text(value)


def short_digest(value: Json) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a value's JSON text."""
    return hashlib.sha256(_text(value).encode()).hexdigest()[:16]


def _text(value: Json) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def leaves(value: Json, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Json]]:
    """Yield every value below a mapping, or below a list of mappings, with its path."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        value = {str(index): item for index, item in enumerate(value)}
    if not isinstance(value, dict):
        yield path, value
        return
    for name, item in value.items():
        yield from leaves(item, (*path, name))
