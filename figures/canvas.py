"""Figures laid out in inches: every label's room is known before the figure is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aegaeon.scoring.goodput import Curves
from figures.style import GREY, NOTE_SIZE

POINTS_PER_INCH = 72
# The name of the band that `style.OVER_SEEDS` draws.
BAND = "band min–max"
# Mean width of a character of small print, as a share of the font size.
_WIDTH = 0.56


@dataclass(frozen=True, slots=True)
class Grid:
    """The parts of a figure in inches.

    Attributes:
        width, height: a panel's plot area.
        left, right, top, bottom: a panel's margins.
        note: height of the note below all panels.
        names: width of the names left of all panels.
    """

    width: float = 2.5
    height: float = 1.75
    left: float = 0.56
    right: float = 1.56
    top: float = 0.84
    bottom: float = 0.42
    note: float = 0.22
    names: float = 0.0

    def whole(self, columns: int) -> float:
        """Return the width of a figure of `columns` columns, in inches."""
        return self.names + columns * (self.left + self.width + self.right)

    def noted(self, columns: int, lines: Sequence[str]) -> tuple[Grid, list[str]]:
        """Return a grid with room for `lines`, and the lines wrapped to the figure's width."""
        room = int((self.whole(columns) - 0.2) * POINTS_PER_INCH / (_WIDTH * NOTE_SIZE))
        wrapped = [part for line in lines for part in wrap(line, room)]
        return replace(self, note=0.08 + 0.14 * len(wrapped)), wrapped


def canvas(rows: int, columns: int, grid: Grid) -> tuple[Figure, list[Axes]]:
    """Return a figure and its `rows * columns` axes, row by row from the top."""
    cell_height = grid.top + grid.height + grid.bottom
    total_width = grid.whole(columns)
    cell_width = (total_width - grid.names) / columns
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
    """Write small grey lines along the bottom edge: the data's origin, the marks' meaning."""
    figure.text(
        0.1 / figure.get_figwidth(),
        (grid.note - 0.03) / figure.get_figheight(),
        "\n".join(lines),
        fontsize=NOTE_SIZE,
        color=GREY,
        va="top",
        linespacing=1.35,
    )


def provenance(sweep: Curves, drawn: str = BAND) -> str:
    """Return the origin of a sweep's numbers in words: simulated or live, hardware, seeds."""
    seeds = over_seeds(sweep.seeds, drawn)
    where = f"{sweep.source.capitalize()} · {sweep.hardware}, {sweep.gpus} GPUs"
    return f"{where}{costs_note(sweep.costs)} · {seeds}"


def costs_note(costs: str) -> str:
    """Return a remark on costs that are no measured profile, else an empty text."""
    return "" if costs in ("profile", "none") else f" · costs: {costs}"


def over_seeds(count: int, drawn: str = BAND) -> str:
    """Return the number of seeds in words; `drawn` names the marks for more than one seed."""
    return f"{count} seeds, {drawn}" if count > 1 else "1 seed"
