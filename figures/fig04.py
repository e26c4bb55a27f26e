"""Fig. 4: active models over time against Theorem 3.1's expectation."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from aegaeon.results.details import with_rows
from aegaeon.results.store import load_own
from aegaeon.scoring.goodput import common
from figures.canvas import Grid, canvas, footnote, over_seeds
from figures.labels import spread
from figures.paper import references
from figures.style import INK, LABEL_SIZE, OVER_SEEDS, look

SERVICE_S = 16.79
SYSTEM = "serverlessllm"
GRID = Grid(width=3.2, height=1.7, right=1.3, top=0.32, note=0.36)


def expected_active(models: int, rate: float, service_s: float) -> float:
    """Return Theorem 3.1's E[m] = M (1 - exp(-rate * service_s)), Poisson arrivals."""
    return -models * math.expm1(-rate * service_s)


def render(stored: Path) -> Figure:
    """Draw the active models over time: the first seed, the range of all seeds, and the means.

    The means are ours, the theorem's and the paper's. Raises `UserError` for a missing table.
    """
    runs, series = load_own("fig04", stored), with_rows("series", "fig04", stored, ())
    source, models, rate = (
        common(runs, column, "fig04") for column in ("source", "num_models", "rate_rps")
    )
    figure, (ax,) = canvas(1, 1, GRID)
    lines = partial(
        sns.lineplot, x="time_s", y="active_models", color=look(SYSTEM).colour, ax=ax,
        drawstyle="steps-post",
    )  # fmt: skip
    # Only the band: a line for the mean of the seeds would hide the theorem's line.
    lines(series, linewidth=0, **OVER_SEEDS)
    lines(series[series["seed"] == series["seed"].min()], estimator=None, linewidth=0.7)
    _label_means(ax, models, expected_active(models, rate, SERVICE_S), runs)
    ax.set_xlim(0, 50 * math.ceil(series["time_s"].max() / 50))
    ax.set_ylim(0, models)
    ax.set_xlabel("Time (s)", labelpad=2)
    ax.set_ylabel("Active models", labelpad=2)
    ax.set_title(f"{models} models at {rate:g} req/s each")
    seeds = over_seeds(runs["seed"].nunique(), "band min–max, line: the first")
    origin = f"{source.capitalize()} · {seeds}"
    theorem = "Theorem 3.1: E[m] = M (1 − exp(−λT)) with the printed λ and T. ◇ stated by the paper"
    footnote(figure, GRID, [origin, theorem])
    return figure


def _label_means(ax: Axes, models: int, theory: float, runs: pd.DataFrame) -> None:
    """Write our mean, the theorem's and the paper's in the right margin, near their heights."""
    ax.axhline(theory, color=INK, linewidth=1.0, dashes=(4, 3), zorder=4)
    marks = [("our mean", float(runs["mean_active_models"].mean()), look(SYSTEM).ink)]
    marks.append(("theorem 3.1", theory, to_rgb(INK)))
    if stated := references()["fig04"].mean:
        marks.append(("◇ paper", stated.value, look("aegaeon").ink))
    sizes = [0.09 * models] * len(marks)
    places = spread([value for _, value, _ in marks], sizes, 0, models)
    for (name, value, ink), place in zip(marks, places, strict=True):
        ax.annotate(
            f"{name} {value:.2f}", (1, place), (8, 0), ("axes fraction", "data"), "offset points",
            color=ink, fontsize=LABEL_SIZE, va="center_baseline",
        )  # fmt: skip


FIGURES = {"fig04": render}
