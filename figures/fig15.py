"""Fig. 15: how long switches take (a), and how long requests wait for their KV (b)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.attainment import Render
from figures.canvas import Grid
from figures.distributions import Part, by_size, ecdf, frame, key, parts, setups, size_class
from figures.style import GREY, SERIES

GRID = Grid(width=2.6, height=1.7, right=1.6, top=0.3)
CHOSEN = (32, 0.1)
NEAR_INSTANT_S = 0.05
LEAST_S = 1e-4
PAPER_LIMIT_S = 1.0


def switches(stored: Path, presets: bool) -> Figure:
    """Draw the CDF of switch times per model size: all of them, and the prefetched ones."""
    del presets
    found = parts("events", stored)
    line = "Until the weights are there, the rest of a prefetch included. Dashed: those prefetched"
    figure, axes = frame(len(found), GRID, "fig15a", line)
    for ax, part in zip(axes, found, strict=True):
        _switches(ax, part)
    axes[0].set_ylabel("Switches up to it (%)", labelpad=2)
    return figure


def waits(stored: Path, presets: bool) -> Figure:
    """Draw the CDF of the seconds that a request waits for its KV, per set-up."""
    del presets
    found = parts("requests", stored)
    line = "Models × requests/s each, and the longest wait. Those under 0.1 ms are at the left edge"
    figure, axes = frame(len(found), GRID, "fig15b", line)
    for ax, part in zip(axes, found, strict=True):
        entries = []
        for colour, (name, lines) in zip(SERIES, setups(part.lines), strict=False):
            values = lines["data_s"].dropna()
            ecdf(ax, values, LEAST_S, color=colour, linewidth=1.3)
            entries.append((f"{name}: ≤{_seconds(float(values.max()))}", colour))
        ax.set_xscale("log")
        ax.set_xlim(LEAST_S, 2.0)
        ax.axvline(PAPER_LIMIT_S, color=GREY, linewidth=0.8, dashes=(4, 3))
        _finish(ax, part, "KV wait of a request, in total (s)")
        key(ax, entries, 0.75)
    axes[0].set_ylabel("Requests up to it (%)", labelpad=2)
    return figure


def chosen(lines: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's set-up, or all lines where it was not run."""
    models, rate = CHOSEN
    mine = lines[(lines["num_models"] == models) & (lines["rate_rps"] == rate)]
    return lines if mine.empty else mine


def _switches(ax: Axes, part: Part) -> None:
    lines = chosen(part.lines[part.lines["kind"] == "switch"])
    limit = float(lines["seconds"].max())
    unit, scale = ("ms", 1000.0) if limit < 2 * NEAR_INSTANT_S else ("s", 1.0)
    sizes = lines["type"].map(size_class)
    entries = []
    for colour, size in zip(SERIES, sorted(sizes.unique(), key=by_size), strict=False):
        mine = lines[sizes == size]
        ecdf(ax, scale * mine["seconds"], 0.0, color=colour, linewidth=1.5, zorder=3)
        ahead = mine.loc[mine["prefetched"], "seconds"]
        if len(ahead):
            ecdf(ax, scale * ahead, 0.0, color=colour, linewidth=0.9, dashes=(4, 2))
        entries.append((f"{size}: {100 * len(ahead) / len(mine):.0f} % prefetched", colour))
    ax.set_xlim(0, 1.0 if unit == "s" and limit < 1 else 1.05 * scale * limit)
    if unit == "s":
        ax.axvline(NEAR_INSTANT_S, color=GREY, linewidth=0.7, dashes=(2, 2))
    fast = 100 * float((lines["seconds"] < NEAR_INSTANT_S).mean())
    entries.append((f"all: {fast:.0f} % under 50 ms", GREY))
    _finish(ax, part, f"Switch ({unit})")
    key(ax, entries, 0.65)


def _finish(ax: Axes, part: Part, label: str) -> None:
    ax.set_ylim(0, 102)
    ax.set_yticks([0, 25, 50, 75, 100])
    ax.set_xlabel(label, labelpad=2)
    ax.set_title(part.title)


def _seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s"


FIGURES: Mapping[str, Render] = {"fig15a": switches, "fig15b": waits}
