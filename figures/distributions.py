"""Panels, titles and keys of all figures that are drawn from detail tables."""

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
from figures.canvas import Grid, canvas, costs_note, footnote
from figures.paper import Reference, references
from figures.style import INK, LABEL_SIZE

SIMULATED, LIVE = "fig14", "live_fig14"
# The system of rows that measure a device and serve no request.
_NO_SYSTEM = "switch_cost"
_ROW = ("system", "source", "hardware", "gpus", "machine", "costs", "num_models", "rate_rps")
_SIZE = re.compile(r"-(\d+(?:\.\d+)?)([bm])$")


@dataclass(frozen=True, slots=True)
class DetailPanel:
    """One panel: a title of source and hardware, and the lines of the detail table."""

    title: str
    lines: pd.DataFrame


def parts(
    table: str,
    stored: Path,
    experiments: Sequence[str] = (SIMULATED, LIVE),
    system: str = "aegaeon",
) -> list[DetailPanel]:
    """Return one panel per stored experiment; `UserError` if the first is not stored."""
    found = []
    for position, name in enumerate(experiments):
        if position == 0 or kept(table, name, stored):
            lines = with_rows(table, name, stored, _ROW)
            lines = lines[lines["system"].isin([system, _NO_SYSTEM])]
            if not lines.empty:
                found.append(DetailPanel(place(lines, name), lines))
    return found


def place(lines: pd.DataFrame, name: str) -> str:
    """Return the place of the runs: `simulated, 16 × H800`, or `live` and the machine."""
    source, hardware, gpus = (common(lines, c, name) for c in ("source", "hardware", "gpus"))
    device = str(hardware).partition("x")[0]
    if device.startswith("cpu"):
        return f"{source}, {common(lines, 'machine', name)}"
    costs = "; ".join(sorted(set(lines["costs"])))
    return f"{source}, {gpus} × {device.upper()}{costs_note(costs)}"


def setups(lines: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the lines by set-up, `models × rate`, as the paper orders them."""
    groups = lines.groupby(["rate_rps", "num_models"], sort=True)
    return [(f"{models:d} × {rate:g}", group) for (rate, models), group in groups]


def size_class(kind: str) -> str:
    """Return a model type's size, as in 7B or 19M; the type itself if its name has no size."""
    match = _SIZE.search(kind)
    return f"{match[1]}{match[2].upper()}" if match else kind


def by_size(name: str) -> tuple[float, str]:
    """Return a sort key: size classes by size, then other names in alphabetical order."""
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
    found: Sequence[DetailPanel],
    panel: Callable[[Axes, DetailPanel], None],
    grid: Grid,
    name: str,
    line: str,
) -> Figure:
    """Return a figure with one panel per element of `found`.

    The footer has two parts: `line`, which explains the panels, and the paper's statement about
    figure `name`.
    """
    stated = references().get(name, Reference()).text
    noted, lines = grid.noted(len(found), [line, f"Paper: {stated}"] if stated else [line])
    figure, axes = canvas(1, len(found), noted)
    for ax, part in zip(axes, found, strict=True):
        panel(ax, part)
    footnote(figure, noted, lines)
    return figure
