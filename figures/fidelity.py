"""The simulator against the live engine: each request's times, quantiles, attainment, switches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from aegaeon.scoring.fidelity import paired_requests, paired_runs, relative_errors
from aegaeon.scoring.goodput import common
from figures.attainment import Render
from figures.canvas import Grid, canvas, footnote
from figures.style import GREY, INK, NOTE_SIZE

EXPERIMENT = "live_fidelity"
GRID = Grid(width=2.15, height=1.95, left=0.6, right=0.28, top=0.42, note=0.42)
MEASURES = {"ttft_s": "Time to first token", "mean_tbt_s": "Mean time between tokens"}
BAND = 0.1
QUANTILES = (0.1, 0.5, 0.9)
# Light to dark with the load, readable in grey as well.
SHADES = ("#9ecae1", "#4292c6", "#08519c", "#08306b")
LIVE, SIMULATED = "#D55E00", "#0072B2"


def render(stored: Path, presets: bool) -> Figure:
    """Draw predicted over measured times per request, and both sources' measures per load."""
    del presets
    requests, runs = paired_requests(EXPERIMENT, stored), paired_runs(EXPERIMENT, stored)
    figure, axes = canvas(1, 4, GRID)
    for ax, (measure, title) in zip(axes, MEASURES.items(), strict=False):
        _scatter(ax, requests, measure, title)
    both = runs.sort_values("rate_rps").groupby("rate_rps").mean(numeric_only=True)
    _bars(axes[2], both, "slo_attainment", "SLO attainment (%)", 100.0)
    _bars(axes[3], both, "switches", "Changes of model", 1.0)
    seeds, machine = runs["seed"].nunique(), common(runs, "machine_live", EXPERIMENT)
    what = f"{len(requests)} requests on {machine}, {seeds} seed{'s' if seeds > 1 else ''}"
    marks = "Left: a point per request, circles 10th, 50th and 90th percentiles of each load"
    note = "The band is ±10 %. Costs come from `aegaeon profile`, which saw none of this traffic"
    footnote(figure, GRID, [f"{what}. {marks}", note])
    return figure


def _scatter(ax: Axes, requests: pd.DataFrame, measure: str, title: str) -> None:
    measured, predicted = (1e3 * requests[f"{measure}_{s}"] for s in ("live", "simulated"))
    shown = (measured > 0) & (predicted > 0)
    loads = sorted(requests["rate_rps"].unique())
    low = 0.8 * float(min(measured[shown].min(), predicted[shown].min()))
    high = 1.25 * float(max(measured[shown].max(), predicted[shown].max()))
    line = np.array([low, high])
    ax.fill_between(line, line * (1 - BAND), line * (1 + BAND), color=GREY, alpha=0.22, linewidth=0)
    ax.plot(line, line, color=INK, linewidth=0.7)
    for rank, load in enumerate(loads):
        mine = shown & (requests["rate_rps"] == load)
        shade = SHADES[rank * (len(SHADES) - 1) // max(1, len(loads) - 1)]
        ax.plot(measured[mine], predicted[mine], ".", color=shade, markersize=2.2, alpha=0.55)
        ax.plot(
            measured[mine].quantile(QUANTILES), predicted[mine].quantile(QUANTILES), "o",
            color=shade, markeredgecolor="white", markersize=5.5, zorder=4, label=f"{load:g}",
        )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    ax.set_xlabel("Measured live (ms)", labelpad=2)
    ax.set_ylabel("Simulated (ms)", labelpad=2)
    ax.set_title(title)
    error = float(relative_errors(requests, measure).abs().median())
    ax.annotate(
        f"median error {error:.1%}", (0.97, 0.05), xycoords="axes fraction", ha="right",
        fontsize=NOTE_SIZE + 0.6, weight="bold", color=INK,
    )  # fmt: skip
    ax.legend(
        title="req/s per model", fontsize=NOTE_SIZE, title_fontsize=NOTE_SIZE, loc="upper left",
        frameon=False, handletextpad=0.1, labelspacing=0.2, borderaxespad=0.2,
    )  # fmt: skip


def _bars(ax: Axes, runs: pd.DataFrame, measure: str, title: str, scale: float) -> None:
    """Draw live and simulated values side by side, a pair per load, and write both."""
    places = np.arange(len(runs))
    tallest = scale * float(runs[[f"{measure}_live", f"{measure}_simulated"]].max().max())
    for shift, source, colour in ((-0.2, "live", LIVE), (0.2, "simulated", SIMULATED)):
        values = scale * runs[f"{measure}_{source}"]
        ax.bar(places + shift, values, 0.38, color=colour, linewidth=0, label=source)
        for place, value in zip(places, values, strict=True):
            ax.annotate(
                f"{value:.0f}", (place + shift, value), (0, 1.5), textcoords="offset points",
                ha="center", fontsize=NOTE_SIZE - 1, color=INK,
            )  # fmt: skip
    ax.set_xticks(places, [f"{rate:g}" for rate in runs.index])
    ax.set_ylim(0, 1.25 * tallest)
    ax.set_xlabel("Load (req/s per model)", labelpad=2)
    ax.set_title(title)
    ax.legend(fontsize=NOTE_SIZE, ncols=2, frameon=False, loc="upper center", borderaxespad=0.2)


FIGURES: Mapping[str, Render] = {"fidelity": render}
