"""Show and store verdicts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aegaeon.claims.model import Outcome, Verdict
from aegaeon.claims.verdicts import MAIN
from aegaeon.results.files import write_text

_COLOURS: Mapping[Outcome, str] = {"PASS": "green", "MISS": "red", "NO DATA": "yellow"}


def print_table(verdicts: Sequence[Verdict], console: Console | None = None) -> None:
    """Print one row a verdict, presets indented below their claim, reasons below the table."""
    console = console or Console()
    table = Table(title="Claims")
    for heading in ("id", "paper’s claim", "expected", "ours", "verdict"):
        table.add_column(heading, overflow="fold")
    for row in verdicts:
        name, claim = (row.id, row.claim) if row.setting == MAIN else ("", f"  {row.setting}")
        verdict = f"[{_COLOURS[row.verdict]}]{row.verdict}[/]"
        table.add_row(name, claim, row.expected, row.ours, verdict)
    console.print(table)
    for row in verdicts:
        if row.reason and row.setting == MAIN:
            console.print(f"{row.id}: {row.reason}", style="dim", markup=False)
    counts = Counter(row.verdict for row in verdicts if row.setting == MAIN)
    console.print(" · ".join(f"{counts[name]} {name}" for name in _COLOURS))


def write_json(verdicts: Sequence[Verdict], path: Path) -> None:
    """Write the verdicts as a JSON list, in one step."""
    rows = [asdict(row) for row in verdicts]
    write_text(json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n", path)
