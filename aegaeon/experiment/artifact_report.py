"""The comparison with the artifact's simulator as a table: printed, and in docs/validation.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aegaeon.experiment.artifact_check import Comparison
from aegaeon.files import replace_between

MARKERS = ("<!-- artifact -->", "<!-- end of artifact -->")
HEADINGS = ("system", "metric", "inputs", "ours", "theirs", "deviation", "largest gap")


def print_table(comparisons: Sequence[Comparison], console: Console | None = None) -> None:
    """Print a line per system, metric and kind of inputs."""
    table = Table(title="Models at 90 %: ours against the public artifact's simulator")
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for comparison in comparisons:
        table.add_row(*_cells(comparison))
    (console or Console()).print(table)


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Return the same lines as a Markdown table."""
    lines = [
        (f"`{system}`", f"`{metric}`", *rest) for system, metric, *rest in map(_cells, comparisons)
    ]
    rows = [HEADINGS, ("---",) * len(HEADINGS), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_markdown(comparisons: Sequence[Comparison], path: Path) -> None:
    """Replace the document's table; `UserError` if the marks around it are missing."""
    replace_between(path, *MARKERS, markdown(comparisons))


def _cells(c: Comparison) -> tuple[str, ...]:
    numbers = (f"{c.ours:.1f}", f"{c.theirs:.1f}", f"{c.deviation:+.1%}", f"{c.largest_gap:.3f}")
    return (c.system, c.metric, c.inputs, *numbers)
