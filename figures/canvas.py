"""Figures laid out in inches, so that every label's room is known before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aegaeon.goodput import Sweep
from figures.style import GREY, NOTE_SIZE

POINTS_PER_INCH = 72


@dataclass(frozen=True, slots=True)
class Grid:
    """Inches of a panel's plot area, its margins, the note below all and the names left of all."""

    width: float = 2.5
    height: float = 1.75
    left: float = 0.56
    right: float = 1.16
    top: float = 0.84
    bottom: float = 0.42
    note: float = 0.22
    names: float = 0.0


def canvas(rows: int, columns: int, grid: Grid) -> tuple[Figure, list[Axes]]:
    """Return a figure and its rows x columns axes, row by row."""
    cell_width = grid.left + grid.width + grid.right
    cell_height = grid.top + grid.height + grid.bottom
    total_width = grid.names + columns * cell_width
    total_height = rows * cell_height + grid.note
    figure = Figure(figsize=(total_width, total_height))
    axes = []
    for row in range(rows):
        for column in range(columns):
            x = grid.names + column * cell_width + grid.left
            y = grid.note + (rows - 1 - row) * cell_height + grid.bottom
            box = (x / total_width, y / total_height)
            size = (grid.width / total_width, grid.height / total_height)
            axes.append(figure.add_axes((*box, *size)))
    return figure, axes


def footnote(figure: Figure, grid: Grid, lines: list[str]) -> None:
    """Write small grey lines along the bottom edge: where the data come from, what marks mean."""
    figure.text(
        0.1 / figure.get_figwidth(),
        (grid.note - 0.03) / figure.get_figheight(),
        "\n".join(lines),
        fontsize=NOTE_SIZE,
        color=GREY,
        va="top",
        linespacing=1.35,
    )


def provenance(sweep: Sweep) -> str:
    """Say in words what produced a sweep's numbers: simulated or live, hardware, seeds."""
    seeds = f"{sweep.seeds} seeds, band min–max" if sweep.seeds > 1 else "1 seed"
    return f"{sweep.source.capitalize()} · {sweep.hardware}, {sweep.gpus} GPUs · {seeds}"
