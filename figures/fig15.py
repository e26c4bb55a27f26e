"""Fig. 15: the durations of switches (a), and the seconds that requests wait for KV (b)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.canvas import Grid
from figures.distributions import DetailPanel, by_size, figure_of, key, parts, setups, size_class
from figures.style import GREY, series

GRID = Grid(width=2.6, height=1.7, right=1.6, top=0.3)
CHOSEN = (32, 0.1)
NEAR_INSTANT_S = 0.05
LEAST_S = 1e-4
PAPER_LIMIT_S = 1.0
CDF: dict[str, Any] = {"stat": "percent", "legend": False}


def switches(stored: Path) -> Figure:
    """Draw the CDF of switch times per model size: of all switches, and of prefetched switches."""
    found = parts("events", stored)
    line = "Until the weights are there, the rest of a prefetch included. Dashed: those prefetched"
    figure = figure_of(found, _switches, GRID, "fig15a", line)
    figure.axes[0].set_ylabel("Switches up to it (%)", labelpad=2)
    return figure


def waits(stored: Path) -> Figure:
    """Draw the CDF of the seconds that a request waits for KV, per set-up."""
    found = parts("requests", stored)
    line = "Models × requests/s each, and the longest wait. Those under 0.1 ms are left of the axis"
    figure = figure_of(found, _waits, GRID, "fig15b", line)
    figure.axes[0].set_ylabel("Requests up to it (%)", labelpad=2)
    return figure


def _waits(ax: Axes, part: DetailPanel) -> None:
    seconds = {name: lines["data_s"].dropna() for name, lines in setups(part.lines)}
    colours = series(seconds)
    long = pd.concat(seconds, names=["setup"]).reset_index()
    sns.ecdfplot(long, x="data_s", hue="setup", palette=colours, linewidth=1.3, ax=ax, **CDF)
    # Set after the curves: on a log axis seaborn computes with logarithms, and some waits are zero.
    ax.set_xscale("log")
    ax.set_xlim(LEAST_S, 2.0)
    ax.axvline(PAPER_LIMIT_S, color=GREY, linewidth=0.8, dashes=(4, 3))
    _finish(ax, part, "KV wait of a request, in total (s)")
    longest = [f"{name}: ≤{_seconds(values.max())}" for name, values in seconds.items()]
    key(ax, list(zip(longest, colours.values(), strict=True)), 0.75)


def chosen(lines: pd.DataFrame) -> pd.DataFrame:
    """Return the lines of the paper's set-up, or all lines if that set-up was not run."""
    models, rate = CHOSEN
    mine = lines[(lines["num_models"] == models) & (lines["rate_rps"] == rate)]
    return lines if mine.empty else mine


def _switches(ax: Axes, part: DetailPanel) -> None:
    lines = chosen(part.lines[part.lines["kind"] == "switch"])
    limit = float(lines["seconds"].max())
    unit, scale = ("ms", 1000.0) if limit < 2 * NEAR_INSTANT_S else ("s", 1.0)
    lines = lines.assign(size=lines["type"].map(size_class), shown=scale * lines["seconds"])
    colours = series(sorted(lines["size"].unique(), key=by_size))
    draw = partial(sns.ecdfplot, x="shown", hue="size", palette=colours, ax=ax, **CDF)
    draw(lines, hue_order=list(colours), linewidth=1.5, zorder=3)
    draw(lines[lines["prefetched"]], hue_order=list(colours), linewidth=0.9, dashes=(4, 2))
    ahead = lines.groupby("size")["prefetched"].mean()
    entries = [(f"{s}: {100 * ahead[s]:.0f} % prefetched", colour) for s, colour in colours.items()]
    ax.set_xlim(0, 1.0 if unit == "s" and limit < 1 else 1.05 * scale * limit)
    if unit == "s":
        ax.axvline(NEAR_INSTANT_S, color=GREY, linewidth=0.7, dashes=(2, 2))
    fast = 100 * float((lines["seconds"] < NEAR_INSTANT_S).mean())
    entries.append((f"all: {fast:.0f} % under 50 ms", GREY))
    _finish(ax, part, f"Switch ({unit})")
    key(ax, entries, 0.65)


def _finish(ax: Axes, part: DetailPanel, label: str) -> None:
    ax.set_ylim(0, 102)
    ax.set_ylabel("")
    ax.set_yticks([0, 25, 50, 75, 100])
    ax.set_xlabel(label, labelpad=2)
    ax.set_title(part.title)


def _seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s"


FIGURES = {"fig15a": switches, "fig15b": waits}
