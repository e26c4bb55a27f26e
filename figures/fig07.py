"""Fig. 7: the cost of a switch by the way of the weights, from a new engine to a prefetch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.canvas import Grid
from figures.distributions import SIMULATED, DetailPanel, figure_of, parts
from figures.style import BARS, GREY, INK, NOTE_SIZE, bars_of, look

# No way to switch: the cost of a copy of the same number of bytes.
REFERENCE = "memcpy"
EXPERIMENTS = (SIMULATED, "live_fig07")
GRID = Grid(width=2.4, height=1.5, left=1.35, right=0.75, top=0.44)


def render(stored: Path) -> Figure:
    """Draw a panel per source with a bar per stage of the largest model, slowest first."""
    found = parts("stages", stored, EXPERIMENTS)
    line = "Medians. Simulated: weights alone, by the cost model. ÷: factor to the bar above"
    return figure_of(found, _panel, GRID, "fig07", line)


def _panel(ax: Axes, part: DetailPanel) -> None:
    lines = part.lines
    model = str(lines.sort_values("bytes")["model"].iloc[-1])
    mine = lines[lines["model"] == model].sort_values("order")
    names = mine["stage"].unique()
    colours = {name: GREY if name == REFERENCE else look("aegaeon").colour for name in names}
    sns.barplot(
        mine, x="seconds", y="stage", hue="stage", palette=colours, estimator="median", width=0.6,
        alpha=0.85, ax=ax, **BARS,
    )  # fmt: skip
    seconds = mine.groupby("stage", sort=False)["seconds"].median()
    _write(ax, seconds)
    ax.set_xscale("log")
    ax.set_xlim(10 ** _floor(seconds.min()), 1.2 * seconds.max())
    ax.set_ylabel("")
    ax.tick_params(axis="y", length=0, pad=5)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("Seconds", labelpad=2)
    size = float(mine["bytes"].max())
    amount = f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
    ax.annotate(
        f"{model}, {amount}", (0, 1), (0, 4), "axes fraction", "offset points",
        fontsize=NOTE_SIZE, color=GREY,
    )  # fmt: skip
    ax.set_title(part.title, pad=14)


def _write(ax: Axes, seconds: pd.Series) -> None:
    """Write at each bar's end the stage's seconds, and the factor to the bar above."""
    factors = seconds.shift() / seconds
    for bar, name in zip(bars_of(ax), seconds.index.astype(str), strict=True):
        text = _seconds(seconds[name])
        if factors[name] > 0 and name != REFERENCE:
            text += f"  ÷ {_factor(factors[name])}"
        ax.bar_label(bar, [text], padding=3, fontsize=NOTE_SIZE, color=INK)


def _floor(value: float) -> int:
    """Return the largest exponent, 0 at most, of a power of ten that is at most `value / 2`."""
    power = 0
    while 10.0**power > value / 2:
        power -= 1
    return power


def _factor(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _seconds(value: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


FIGURES = {"fig07": render}
