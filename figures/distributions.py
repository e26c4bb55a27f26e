"""What the figures drawn from the tables beside the rows share: panels, titles, keys."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aegaeon.results.details import kept, with_rows
from aegaeon.scoring.goodput import common
from figures.canvas import Grid, canvas, footnote
from figures.paper import Reference, references
from figures.style import INK, LABEL_SIZE

SIMULATED, LIVE = "fig14", "live_fig14"
# What rows that measure a device and serve no request are called.
_NO_SYSTEM = "switch_cost"
_ROW = ("system", "source", "hardware", "gpus", "machine", "num_models", "rate_rps")
_SIZE = re.compile(r"-(\d+(?:\.\d+)?)([bm])$")


@dataclass(frozen=True, slots=True)
class Part:
    """The lines that one panel draws, and its title: source, hardware."""

    title: str
    lines: pd.DataFrame


def parts(
    table: str,
    stored: Path,
    experiments: Sequence[str] = (SIMULATED, LIVE),
    system: str = "aegaeon",
) -> list[Part]:
    """Return one part per stored experiment; the first must be there, or `UserError`."""
    found = []
    for position, name in enumerate(experiments):
        if position == 0 or kept(table, name, stored):
            lines = with_rows(table, name, stored, _ROW)
            lines = lines[lines["system"].isin([system, _NO_SYSTEM])]
            if not lines.empty:
                found.append(Part(place(lines, name), lines))
    return found


def place(lines: pd.DataFrame, name: str) -> str:
    """Say where runs took place: `simulated, 16 × H800`, or live on which machine."""
    source, hardware, gpus = (common(lines, c, name) for c in ("source", "hardware", "gpus"))
    device = str(hardware).partition("x")[0]
    if device.startswith("cpu"):
        return f"{source}, {common(lines, 'machine', name)}"
    return f"{source}, {gpus} × {device.upper()}"


def setups(lines: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the lines by set-up, `models × rate`, as the paper orders them."""
    groups = lines.groupby(["rate_rps", "num_models"], sort=True)
    return [(f"{models:d} × {rate:g}", group) for (rate, models), group in groups]


def size_class(kind: str) -> str:
    """Return a model type's size, as in 7B or 19M; types without one stand for themselves."""
    match = _SIZE.search(kind)
    return f"{match[1]}{match[2].upper()}" if match else kind


def by_size(name: str) -> tuple[float, str]:
    """Sort size classes by size, others after them by name."""
    match = re.fullmatch(r"([\d.]+)([BM])", name)
    return (float(match[1]) * {"B": 1e9, "M": 1e6}[match[2]], name) if match else (math.inf, name)


def key(ax: Axes, entries: Sequence[tuple[str, str]], top: float = 0.5) -> None:
    """Write names behind squares of their colours in the right margin, from `top` of the height."""
    for row, (text, colour) in enumerate(entries):
        for name, x, ink in (("■", 6, colour), (text, 17, INK)):
            ax.annotate(
                name, (1, top), (x, -11 * row), "axes fraction", "offset points",
                color=ink, fontsize=LABEL_SIZE, va="center_baseline",
            )  # fmt: skip


def figure_of(
    found: Sequence[Part], panel: Callable[[Axes, Part], None], grid: Grid, name: str, line: str
) -> Figure:
    """Return a figure with a panel per part.

    Below the panels stand `line`, how to read them, and what the paper states of figure `name`.
    """
    stated = references().get(name, Reference()).text
    noted, lines = grid.noted(len(found), [line, f"Paper: {stated}"] if stated else [line])
    figure, axes = canvas(1, len(found), noted)
    for ax, part in zip(axes, found, strict=True):
        panel(ax, part)
    footnote(figure, noted, lines)
    return figure
