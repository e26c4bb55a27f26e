"""The changes that an export would make to stored rows: a table of measures, old -> new."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table

from aegaeon.results.diff import Cell, changed_cells
from aegaeon.results.schema import ROWS

LIMIT = 40


def print_changes(
    fresh: pd.DataFrame, stored: pd.DataFrame, console: Console, limit: int = LIMIT
) -> None:
    """Print a line per measure of a stored row that a fresh row changes.

    Without such a measure, nothing is printed. Rows are matched by `config_hash`. A line describes
    its row by the settings that vary among the stored rows. After `limit` lines, a last line gives
    the number of measures left out.
    """
    changes = _changes(fresh, stored)
    if not changes:
        return
    rows = stored.set_index("config_hash")
    settings = [name for name in ROWS.of_role("setting") if rows[name].nunique() > 1]
    table = Table(box=None)
    for name in [*settings, "measure", "old", "new"]:
        table.add_column(name, justify="left" if name in ("system", "measure") else "right")
    for key, cell in changes[:limit]:
        values = [rows.at[key, name] for name in settings]
        table.add_row(*map(_text, values), cell.column, _text(cell.stored), _text(cell.fresh))
    count = len({key for key, _ in changes})
    console.print(f"{count} of {len(stored)} stored rows change, old -> new:", highlight=False)
    console.print(table)
    if len(changes) > limit:
        console.print(f"… and {len(changes) - limit} more measures", highlight=False)


def _changes(fresh: pd.DataFrame, stored: pd.DataFrame) -> Sequence[tuple[str, Cell]]:
    """Return each differing measure with its row's hash, in the order of the stored rows."""
    if fresh.empty:
        return ()
    changed, measures = changed_cells(fresh, stored), ROWS.of_role("measure")
    return [
        (key, cell)
        for key in stored["config_hash"]
        for cell in changed.get(key, ())
        if cell.column in measures
    ]


def _text(value: object) -> str:
    if isinstance(value, float):
        return "none" if pd.isna(value) else f"{value:.6g}"
    return str(value)
