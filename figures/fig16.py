"""Fig. 16: the unused share of the host KV pool's bound slabs, at the peak of bound slabs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aegaeon.scoring.goodput import fragmentation
from figures.canvas import Grid
from figures.distributions import SIMULATED, DetailPanel, figure_of, parts
from figures.fig15 import chosen
from figures.style import BARS, GREY, INK, NOTE_SIZE, bars_of, look

GRID = Grid(width=2.3, height=1.7, right=0.5, top=0.5, bottom=0.56)
PAPER_LIMIT = 80.0


def render(stored: Path, presets: bool = True) -> Figure:
    """Draw a bar per block shape and a bar for all shapes: used and unused bytes of bound slabs."""
    found = parts("pool", stored)
    if presets:
        eager = parts("pool", stored, (SIMULATED,), "aegaeon_artifact")
        found[1:1] = [DetailPanel("the same, artifact’s rules", p.lines) for p in eager]
    line = "Pale: in slabs bound to a shape and unused, each bar at its own peak. Dashed: the paper"
    figure = figure_of(found, _panel, GRID, "fig16", line)
    figure.axes[0].set_ylabel("Of the peak allocation (%)", labelpad=2)
    return figure


def _panel(ax: Axes, part: DetailPanel) -> None:
    lines = _smallest(chosen(part.lines))
    uses = {
        f"{shape}\n{_bytes(float(str(size)))}": fragmentation(mine)
        for (shape, size), mine in lines.groupby(["shape", "block_bytes"])
    } | {"all\nshapes": fragmentation(lines)}
    used = [100 * (1 - use.share) for use in uses.values()]
    for heights, alpha in (([100.0] * len(uses), 0.2), (used, 1.0)):
        sns.barplot(
            x=list(uses), y=heights, color=look("aegaeon").colour, alpha=alpha, width=0.66,
            zorder=2, ax=ax, **BARS,
        )  # fmt: skip
    unused = [f"{100 * use.share:.0f} % of\n{_bytes(use.allocated)}" for use in uses.values()]
    written = ax.bar_label(bars_of(ax)[0], unused, padding=1, fontsize=NOTE_SIZE, color=GREY)
    written[-1].set_color(INK)
    ax.axhline(PAPER_LIMIT, color=INK, linewidth=0.8, dashes=(4, 3))
    ax.set_ylim(0, 100)
    ax.set_xlabel("shape and bytes per block", labelpad=2)
    ax.set_title(part.title, pad=22)


def _smallest(lines: pd.DataFrame) -> pd.DataFrame:
    """Return the lines of one run: fewest models, lowest rate, first seed."""
    order = ["num_models", "rate_rps", "seed", "config_hash"]
    runs = lines[order].drop_duplicates().sort_values(order)
    smallest: pd.DataFrame = lines[lines["config_hash"] == runs["config_hash"].iloc[0]]
    return smallest


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"


FIGURES = {"fig16": render}
