"""The ledger of introduced defaults: the default of each configuration key at its introduction."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import yaml

# The names from the top level down to a key.
KeyPath: TypeAlias = tuple[str, ...]

LEDGER = Path(__file__).with_name("introduced_defaults.yaml")
_ANY_NAME = "*"


class Introduced(NamedTuple):
    """A line of the ledger: the number of older lines, and the default."""

    position: int
    default: Any


def ledger_entry(path: KeyPath) -> Introduced | None:
    """Return the ledger's entry for a key; None if the key counts at any value."""
    exact, patterns = _entries()
    if path in exact:
        return exact[path]
    return next((entry for pattern, entry in patterns.items() if _matches(pattern, path)), None)


@cache
def _entries() -> tuple[Mapping[KeyPath, Introduced], Mapping[KeyPath, Introduced]]:
    """Return two mappings: the entries of plain keys, and of keys with a user-chosen name."""
    defaults = yaml.safe_load(LEDGER.read_text(encoding="utf-8"))["defaults"]
    found = {
        tuple(key.split(".")): Introduced(position, default)
        for position, (key, default) in enumerate(defaults.items())
    }
    patterns = {path: entry for path, entry in found.items() if _ANY_NAME in path}
    return {path: entry for path, entry in found.items() if path not in patterns}, patterns


def _matches(pattern: KeyPath, path: KeyPath) -> bool:
    return len(pattern) == len(path) and all(
        expected in (_ANY_NAME, name) for expected, name in zip(pattern, path, strict=True)
    )
