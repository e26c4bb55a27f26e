"""Every point once: which entries a store lacks, and which of its runs others replace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aegaeon.results.mlflow.entry import Entry

if TYPE_CHECKING:
    from aegaeon.results.mlflow.writers.base import Found

_STORED = "@stored-"


def not_shown(entries: Sequence[Entry], known: Mapping[str, Found]) -> list[Entry]:
    """Return the entries to log.

    A stored row is left out where the store shows a finished run of its point: the run has more.
    """
    finished = {
        key.partition("@")[0]
        for key, found in known.items()
        if found.active and found.status == "FINISHED" and _STORED not in key
    }
    return [
        entry
        for entry in entries
        if entry.key not in known and not (_STORED in entry.key and entry.point in finished)
    ]


def replaced(known: Mapping[str, Found]) -> list[str]:
    """Return the ids of runs whose point has a better entry among `known`.

    A finished run is better than a failed one, a run than a stored row, and a later run than an
    earlier one: a key ends with the time of its run.
    """
    best: dict[str, str] = {}
    shown = {key: found for key, found in known.items() if found.active}
    points = [key for key in shown if not key.startswith("sweep@")]
    for key in sorted(points, key=lambda key: _rank(key, shown[key])):
        best[key.partition("@")[0]] = key
    return [shown[key].run_id for key in points if best[key.partition("@")[0]] != key]


def _rank(key: str, found: Found) -> tuple[bool, bool, str]:
    return found.status == "FINISHED", _STORED not in key, key
