"""The simulator against the live engine: each request's times, quantiles, attainment, switches."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from aegaeon.scoring.fidelity import paired_requests, paired_runs, relative_errors
from aegaeon.scoring.goodput import common
from figures.canvas import Grid, canvas, footnote
from figures.style import BARS, GREY, INK, NOTE_SIZE, bars_of

EXPERIMENT = "live_fidelity"
GRID = Grid(width=2.15, height=1.95, left=0.6, right=0.28, top=0.42, note=0.42)
MEASURES = {"ttft_s": "Time to first token", "mean_tbt_s": "Mean time between tokens"}
BAND = 0.1
QUANTILES = [0.1, 0.5, 0.9]
# Light to dark with the load, readable in grey as well.
SHADES = ("#9ecae1", "#4292c6", "#08519c", "#08306b")
COLOURS = {"live": "#D55E00", "simulated": "#0072B2"}


def render(stored: Path) -> Figure:
    """Draw predicted over measured times per request, and both sources' measures per load.

    Raises `UserError` if the experiment is not stored.
    """
    requests, runs = paired_requests(EXPERIMENT, stored), paired_runs(EXPERIMENT, stored)
    figure, axes = canvas(1, 4, GRID)
    for ax, (measure, title) in zip(axes, MEASURES.items(), strict=False):
        _scatter(ax, requests, measure)
        ax.set_title(title)
    _bars(axes[2], runs, "slo_attainment", 100.0)
    axes[2].set_title("SLO attainment (%)")
    _bars(axes[3], runs, "switches", 1.0)
    axes[3].set_title("Changes of model")
    seeds, machine = runs["seed"].nunique(), common(runs, "machine_live", EXPERIMENT)
    what = f"{len(requests)} requests on {machine}, {seeds} seed{'s' if seeds > 1 else ''}"
    marks = "Left: a point per request, circles 10th, 50th and 90th percentiles of each load"
    note = "Right: means. Band: ±10 %. Costs: `aegaeon profile`, which saw none of this traffic"
    footnote(figure, GRID, [f"{what}. {marks}", note])
    return figure


def _scatter(ax: Axes, requests: pd.DataFrame, measure: str) -> None:
    columns = [f"{measure}_{source}" for source in COLOURS]
    times = (1e3 * requests[columns]).assign(rate_rps=requests["rate_rps"])
    times = times[(times[columns] > 0).all(axis=1)]
    loads = sorted(requests["rate_rps"].unique())
    shades = [SHADES[i * (len(SHADES) - 1) // max(1, len(loads) - 1)] for i in range(len(loads))]
    points = partial(
        sns.scatterplot, x=columns[0], y=columns[1], hue="rate_rps",
        palette=dict(zip(loads, shades, strict=True)), ax=ax,
    )  # fmt: skip
    points(times, marker=".", s=16, linewidth=0, alpha=0.75, legend=False)
    points(times.groupby("rate_rps").quantile(np.array(QUANTILES)).reset_index(0), s=30, zorder=4)
    _diagonal(ax, 0.8 * times[columns].min().min(), 1.25 * times[columns].max().max())
    error = float(relative_errors(requests, measure).abs().median())
    ax.annotate(
        f"median error {error:.1%}", (0.97, 0.05), xycoords="axes fraction", ha="right",
        fontsize=NOTE_SIZE + 0.6, weight="bold", color=INK,
    )  # fmt: skip
    sns.move_legend(
        ax, "upper left", title="req/s per model", fontsize=NOTE_SIZE, title_fontsize=NOTE_SIZE,
        frameon=False, handletextpad=0.1, labelspacing=0.2, borderaxespad=0.2,
    )  # fmt: skip


def _diagonal(ax: Axes, low: float, high: float) -> None:
    """Draw the line of equal times and the band around the line, on logarithmic axes."""
    line = np.array([low, high])
    ax.fill_between(line, line * (1 - BAND), line * (1 + BAND), color=GREY, alpha=0.22, linewidth=0)
    ax.plot(line, line, color=INK, linewidth=0.7)
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    ax.set_xlabel("Measured live (ms)", labelpad=2)
    ax.set_ylabel("Simulated (ms)", labelpad=2)


def _bars(ax: Axes, runs: pd.DataFrame, measure: str, scale: float) -> None:
    """Draw live and simulated means over the seeds as labelled bars, a pair per load."""
    values = {source: scale * runs[f"{measure}_{source}"] for source in COLOURS}
    long = runs[["rate_rps"]].assign(**values).melt("rate_rps", var_name="source")
    sns.barplot(
        long, x="rate_rps", y="value", hue="source", palette=COLOURS, gap=0.05, ax=ax,
        **BARS | {"legend": True},
    )  # fmt: skip
    for bars in bars_of(ax):
        ax.bar_label(bars, fmt="%.0f", padding=1.5, fontsize=NOTE_SIZE - 1, color=INK)
    ax.set_ylim(0, 1.25 * ax.dataLim.y1)
    ax.set_xlabel("Load (req/s per model)", labelpad=2)
    ax.set_ylabel("")
    ax.legend(fontsize=NOTE_SIZE, ncols=2, frameon=False, loc="upper center", borderaxespad=0.2)


FIGURES = {"fidelity": render}
