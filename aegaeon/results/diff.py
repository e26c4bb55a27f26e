"""Fresh results against stored ones, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from aegaeon.results.schema import ROWS, VOLATILE

_COMPARED = tuple(name for name in ROWS.names if name not in (*VOLATILE, "config_hash"))


@dataclass(frozen=True, slots=True)
class Cell:
    """A value that differs."""

    column: str
    fresh: Any
    stored: Any


@dataclass(frozen=True, slots=True)
class Report:
    """How fresh rows compare with the stored rows of the same configuration hash.

    Attributes:
        identical: number of rows in both tables that agree in all but the volatile columns.
        differing: the cells that disagree, by configuration hash.
        missing: hashes that are stored and were not run.
        new: hashes that were run and are not stored.
    """

    identical: int
    differing: Mapping[str, tuple[Cell, ...]]
    missing: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every stored row was run again with the same result."""
        return not self.differing and not self.missing

    def summary(self) -> str:
        """Return one line: the numbers of identical, differing, missing and new rows."""
        total = self.identical + len(self.differing) + len(self.missing)
        parts = [f"{self.identical} of {total} rows identical to the stored ones"]
        counts = (("differ", self.differing), ("were not run", self.missing), ("are new", self.new))
        parts += [f"{len(rows)} {word}" for word, rows in counts if rows]
        return ", ".join(parts)

    def details(self, limit: int = 20) -> list[str]:
        """Return one line per differing cell, `limit` at most."""
        lines = [
            f"{key} {cell.column}: {cell.fresh} now, {cell.stored} stored"
            for key, cells in self.differing.items()
            for cell in cells
        ]
        more = [f"… and {len(lines) - limit} more cells"] if len(lines) > limit else []
        return lines[:limit] + more


def diff(fresh: pd.DataFrame, stored: pd.DataFrame, rtol: float = 0.0) -> Report:
    """Compare two stored tables by `config_hash`, all columns but the volatile ones.

    `rtol` is the relative difference up to which two floats agree. 0 asks for the same bits;
    another processor's mathematical functions need not give the same bits.
    """
    ours, theirs = set(fresh["config_hash"]), set(stored["config_hash"])
    changed = changed_cells(fresh, stored, rtol)
    return Report(
        identical=len(ours & theirs) - len(changed),
        differing=changed,
        missing=tuple(sorted(theirs - ours)),
        new=tuple(sorted(ours - theirs)),
    )


def changed_cells(
    fresh: pd.DataFrame, stored: pd.DataFrame, rtol: float = 0.0
) -> dict[str, tuple[Cell, ...]]:
    """Return the differing cells of the rows that both tables have, by configuration hash.

    A stored row that is older than a column has an empty cell there, which is not compared.
    """
    keys = sorted(set(fresh["config_hash"]) & set(stored["config_hash"]))
    ours, theirs = (df.set_index("config_hash").loc[keys] for df in (fresh, stored))
    changed: dict[str, list[Cell]] = {}
    for name in _COMPARED:
        a, b = ours[name].to_numpy(), theirs[name].to_numpy()
        column = ROWS.by_name[name]
        unequal = column.unequal(a, b, rtol)
        if column.later:
            unequal &= ~pd.isna(b)
        for index in np.flatnonzero(unequal):
            changed.setdefault(keys[index], []).append(Cell(name, a[index], b[index]))
    return {key: tuple(cells) for key, cells in sorted(changed.items())}
