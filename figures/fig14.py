"""Fig. 14: the parts of the time of all requests, per set-up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from figures.canvas import Grid
from figures.distributions import DetailPanel, figure_of, key, parts, setups
from figures.style import GREY, INK, NOTE_SIZE, bars_of

PARTS: Mapping[str, tuple[str, str]] = {
    "prefill_wait_s": ("prefill wait", "#9ecae1"),
    "prefill_s": ("prefill execution", "#0072B2"),
    "decode_wait_s": ("decode wait", "#fdbe85"),
    "decode_s": ("decode execution", "#D55E00"),
    "control_s": ("control", GREY),
    "data_s": ("data (KV)", "#009E73"),
}
EXECUTION = ("prefill_s", "decode_s")
GRID = Grid(width=2.7, height=1.8, right=1.35, top=0.44)
WRITTEN = 0.07


def render(stored: Path) -> Figure:
    """Draw a panel per source with a stacked bar per set-up."""
    found = parts("requests", stored)
    line = "Sums over finished requests; above each bar the mean seconds from arrival to last token"
    figure = figure_of(found, _panel, GRID, "fig14", line)
    figure.axes[0].set_ylabel("Share of time (%)", labelpad=2)
    return figure


def seconds(lines: pd.DataFrame) -> pd.DataFrame:
    """Return the seconds of every finished request, a column per part."""
    return lines[list(PARTS)].dropna().astype(float).clip(lower=0.0)


def _panel(ax: Axes, part: DetailPanel) -> None:
    spent = pd.concat({name: seconds(lines) for name, lines in setups(part.lines)}, names=["setup"])
    sns.histplot(
        spent.melt(var_name="part", value_name="seconds", ignore_index=False).reset_index(),
        x="setup", weights="seconds", hue="part", hue_order=list(PARTS)[::-1], multiple="fill",
        palette={column: colour for column, (_, colour) in PARTS.items()}, alpha=1, linewidth=0,
        shrink=0.66, legend=False, ax=ax,
    )  # fmt: skip
    for bars, column in zip(bars_of(ax), PARTS, strict=True):
        ax.bar_label(
            bars, label_type="center", fontsize=NOTE_SIZE,
            fmt=lambda share: f"{100 * share:.0f}" if share >= WRITTEN else "",
            color="white" if column in EXECUTION else INK,
        )  # fmt: skip
    means = [f"{mean:.3g} s" for mean in spent.sum(axis=1).groupby("setup", sort=False).mean()]
    ax.bar_label(bars_of(ax)[-1], means, padding=2, fontsize=NOTE_SIZE, color=GREY)
    ax.set(xlim=(-0.6, len(means) - 0.4), ylim=(0, 1), ylabel="")
    ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    ax.tick_params(axis="x", labelsize=NOTE_SIZE)
    ax.set_xlabel("models × requests/s each", labelpad=2)
    ax.set_title(part.title, pad=16)
    key(ax, list(PARTS.values())[::-1], 0.75)


FIGURES = {"fig14": render}
