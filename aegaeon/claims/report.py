"""Verdicts as a printed table, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aegaeon.claims.model import Decision, Verdict
from aegaeon.claims.verdicts import MAIN
from aegaeon.files import replace_between, write_text

_BEGIN, _END = "<!-- claims -->", "<!-- end of claims -->"
_COLOURS: Mapping[Decision, str] = {"PASS": "green", "MISS": "red", "NO DATA": "yellow"}


def print_table(verdicts: Sequence[Verdict], console: Console | None = None) -> None:
    """Print one row per verdict; presets are indented below a claim, reasons follow the table."""
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
    """Write the verdicts as a JSON list; the file is replaced in one step."""
    rows = [asdict(row) for row in verdicts]
    write_text(json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n", path)


def write_markdown(verdicts: Sequence[Verdict], path: Path) -> None:
    """Replace the text between the document's two markers; `UserError` if a marker is missing."""
    replace_between(path, _BEGIN, _END, markdown(verdicts))


def markdown(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts as a Markdown table, then the reasons as a list (docs/claims.md)."""
    lines = ["| id | paper's claim | expected | ours | verdict |", "|---|---|---|---|---|"]
    for row in verdicts:
        name, claim = row.id, f"{row.claim} ({row.section})"
        if row.setting != MAIN:
            name, claim = "", f"… with `{row.setting}`"
        lines.append(f"| {name} | {claim} | {row.expected} | {row.ours} | {row.verdict} |")
    reasons = [f"* **{r.id}**: {r.reason}." for r in verdicts if r.reason and r.setting == MAIN]
    return "\n".join([*lines, "", *reasons])
