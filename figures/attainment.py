"""The attainment panel of Figs 11, 12 and 13: share of tokens on time over models or rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aegaeon.results.store import load_stored
from aegaeon.scoring.goodput import LEVEL, Curves, lacking, sweep
from figures.canvas import POINTS_PER_INCH, Grid, canvas, footnote, provenance
from figures.header import header, number
from figures.labels import spread
from figures.paper import Reference, references
from figures.style import GREY, OVER_SEEDS, TARGETS, look, ordered, palette
from figures.variants import lettered

AXIS_LABELS = {"num_models": "Number of models", "rate_rps": "Arrival rate per model (req/s)"}
MARKS = "Numbers: largest load at 90 % (dashed), mean of seeds"
STATED = ". ◇ stated by the paper"
TOP = 104.0
SINGLE = Grid(width=2.7, height=1.85, note=0.36)


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of the stored experiment `name`; `title` names the setting of this panel.

    `target` names a column. A panel with `target` draws a curve per value of that column, hardest
    first, instead of a curve per system.
    """

    name: str
    title: str
    target: str = ""


def figures(
    name: str, panels: Sequence[Panel], columns: int, wide: float = 2.3
) -> Mapping[str, Callable[..., Figure]]:
    """Return the drawing functions of the whole figure and of each panel, by name."""
    whole = {name: partial(render, panels, columns, Grid(width=wide))}
    single = {panel.name: partial(render, (panel,), 1, SINGLE) for panel in panels}
    return {**whole, **single}


def render(
    panels: Sequence[Panel], columns: int, grid: Grid, stored: Path, presets: bool = True
) -> Figure:
    """Draw panels from stored tables; `presets` adds the variants of systems, dashed.

    Raises `UserError` for a missing stored table.
    """
    rows = {panel.name: load_stored(panel.name, stored) for panel in panels}
    tables, variants = lettered({panel.name: _curves(rows[panel.name], panel) for panel in panels})
    sweeps = [sweep(tables[panel.name], panel.name) for panel in panels]
    notes = [*variants, *filter(None, (lacking(rows[panel.name], panel.name) for panel in panels))]
    sources = " / ".join(dict.fromkeys(provenance(data) for data in sweeps))
    marked = any(references().get(panel.name, Reference()).models for panel in panels)
    marks = MARKS + STATED if marked else MARKS
    wide, lines = grid.noted(columns, [f"{sources}. {marks}"])
    if notes or len(lines) > 1:
        wide, lines = grid.noted(columns, [sources, marks, *notes])
    figure, axes = canvas(math.ceil(len(panels) / columns), columns, wide)
    for position, (panel, ax, data) in enumerate(zip(panels, axes, sweeps, strict=False)):
        draw(ax, panel, data, grid, presets)
        ax.set_ylabel("" if position % columns else "SLO attainment (%)", labelpad=2)
    footnote(figure, wide, lines)
    return figure


def _curves(table: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    if not panel.target:
        return table
    values = sorted(table[panel.target].unique())
    names = dict(zip_longest(values, list(TARGETS)[: len(values)]))
    names = {value: name or f"{panel.target}={value:g}" for value, name in names.items()}
    return table.assign(system=table[panel.target].map(names))


def draw(ax: Axes, panel: Panel, data: Curves, grid: Grid, presets: bool) -> None:
    """Draw one panel: curves with seed bands, crossings, the paper's marks and direct labels."""
    systems = ordered(list(data.mean.columns), presets)
    curves(ax, data, systems)
    # A part of a sweep keeps the axis of the whole sweep.
    first, last = data.span
    margin = 0.03 * (last - first or 1.0)
    ax.set_xlim(first - margin, last + margin)
    ax.set_ylim(0, TOP)
    ax.set_yticks([0, 25, 50, 75, 90, 100])
    ax.set_xlabel(AXIS_LABELS[data.axis], labelpad=2)
    ax.axhline(100 * LEVEL, color=GREY, linewidth=0.9, dashes=(4, 3), zorder=1.5)
    _label_ends(ax, data, systems, grid)
    header(ax, panel.title, data, systems, references().get(panel.name, Reference()), grid)


def curves(ax: Axes, data: Curves, systems: Sequence[str]) -> None:
    """Draw a system's mean over the seeds and the range of the seeds.

    A preset's curve is the mean alone, thin and dashed. The first system is drawn last, on top.
    """
    looks = {name: look(name) for name in reversed(systems)}
    dashes = {name: its.dash for name, its in looks.items() if its.is_preset}
    markers = {name: its.marker for name, its in looks.items() if not its.is_preset}
    if dashes:
        _lines(ax, data, list(dashes), dashes=dashes, errorbar=None, linewidth=1.0)
    if markers:
        _lines(ax, data, list(markers), markers=markers, dashes=False, **OVER_SEEDS)


def _lines(ax: Axes, data: Curves, names: list[str], **how: object) -> None:
    runs = data.runs[data.runs["system"].isin(names)]
    sns.lineplot(
        runs.assign(percent=100 * runs["slo_attainment"]), x=data.axis, y="percent",
        hue="system", hue_order=names, style="system", style_order=names, palette=palette(names),
        markeredgewidth=0.3, legend=False, ax=ax, **how,
    )  # fmt: skip


def _label_ends(ax: Axes, data: Curves, systems: list[str], grid: Grid) -> None:
    """Name every curve in the right margin, level with the curve's end where there is room.

    The label of a curve that ends inside the panel has the marker and the last load, and no leader.
    """
    means = [100 * data.mean[name].dropna() for name in systems]
    ends = [(float(mean.index[-1]), float(mean.iloc[-1])) for mean in means]
    point = TOP / (grid.height * POINTS_PER_INCH)
    sizes = [(look(name).size + 3) * point for name in systems]
    heights = spread([y for _, y in ends], sizes, -3 * point, TOP + 3 * point)
    left, right = ax.get_xlim()
    inch = (right - left) / grid.width
    for name, height, (x, y) in zip(systems, heights, ends, strict=True):
        style, label = look(name), look(name).label
        if x < data.mean.index[-1]:
            label += f" to {number(x, data.axis)}"
            path = [(right + 0.1 * inch, height)]
        else:
            path = [(x, y), (right + 0.07 * inch, height), (right + 0.15 * inch, height)]
        ax.plot(
            *zip(*path, strict=True), color=style.colour, linewidth=0.5, clip_on=False, zorder=1.6,
            marker=style.marker if len(path) == 1 else "",
        )  # fmt: skip
        ax.text(
            right + 0.18 * inch, height, label, color=style.ink, fontsize=style.size,
            va="center_baseline", weight="bold" if name == "aegaeon" else "normal",
        )  # fmt: skip
