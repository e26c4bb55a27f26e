"""Version 1 of the configuration hash: every key counted, at any value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aegaeon.results.config_hash import (
    Json,
    as_introduced,
    canonical,
    counted,
    jsonable,
    short_digest,
)
from aegaeon.results.introduced import KeyPath, ledger_entry

# Ledger entries after the first 51 are keys younger than version 1.
LEDGER_ENTRIES = 51


def old_hash(config: Mapping[str, Any]) -> str:
    """Return the version 1 hash of a configuration, which may have keys newer than version 1.

    A newer key at its introduced default is left out.
    """
    return short_digest(_without_newer(canonical(jsonable(counted(config))), ()))


def _without_newer(value: Json, path: KeyPath) -> Json:
    if not isinstance(value, dict):
        return value
    items = {name: (_without_newer(item, (*path, name)), item) for name, item in value.items()}
    return {
        name: kept
        for name, (kept, item) in items.items()
        if not _is_newer((*path, name), item) and (kept or kept == item)
    }


def _is_newer(path: KeyPath, value: Json) -> bool:
    entry = ledger_entry(path)
    newer = entry is not None and entry.position >= LEDGER_ENTRIES
    return newer and as_introduced(path, value)
