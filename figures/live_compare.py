"""Live attainment over the load: Aegaeon and the baselines on two instances of one machine."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aegaeon.results.store import load_own, reading_folder, stored_path
from aegaeon.scoring.goodput import Curves, common, sweep
from figures.attainment import Panel, draw
from figures.canvas import Grid, canvas, footnote, over_seeds
from figures.style import look, ordered

PANEL = Panel("live_compare", "Live, 6 models on 2 instances")
PREDICTED = "live_compare_simulated"
GRID = Grid(width=3.2, height=1.9, right=1.36, note=0.5)
SPLIT = "Aegaeon: 1 prefill + 1 decoding instance, so half of what the others decode on"


def render(stored: Path, presets: bool = True) -> Figure:
    """Draw measured attainment per system; hollow marks are the simulator's predictions."""
    table = load_own(PANEL.name, stored)
    data, machine = _sweep(table), common(table, "machine", PANEL.name)
    figure, (ax,) = canvas(1, 1, GRID)
    draw(ax, PANEL, data, GRID, presets)
    ax.set_ylabel("SLO attainment (%)", labelpad=2)
    source = f"{data.source.capitalize()} · {data.gpus} instances of vLLM on {machine}"
    marks = "Numbers: largest load at 90 % (dashed)"
    if _predict(ax, stored, presets):
        marks += ". Hollow: predicted by the simulator"
    footnote(figure, GRID, [f"{source} · {over_seeds(data.seeds)}", SPLIT, marks])
    return figure


def _sweep(table: pd.DataFrame) -> Curves:
    table = table.assign(system=table["system"].replace("aegaeon_1p1d", "aegaeon"))
    return sweep(table, PANEL.name)


def _predict(ax: Axes, stored: Path, presets: bool) -> bool:
    """Draw the simulator's points if stored; return whether the points are stored."""
    if not stored_path(PREDICTED, reading_folder(PREDICTED, stored)).exists():
        return False
    data = _sweep(load_own(PREDICTED, stored))
    for system in ordered(list(data.mean.columns), presets):
        mean = 100 * data.mean[system].dropna()
        style = look(system)
        ax.plot(
            mean.index, mean, style.marker or ".", color=style.colour, markerfacecolor="white",
            markersize=5.5, zorder=4,
        )  # fmt: skip
    return True


FIGURES = {"live_compare": render}
