"""Fig. 16: how much of the host KV pool's slabs is unused when most are bound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aegaeon.scoring.goodput import PoolUse, fragmentation
from figures.attainment import Render
from figures.canvas import Grid
from figures.distributions import SIMULATED, Part, frame, parts
from figures.fig15 import chosen
from figures.style import GREY, INK, NOTE_SIZE, look

GRID = Grid(width=2.3, height=1.7, right=0.5, top=0.44, bottom=0.56)
PAPER_LIMIT = 80.0


def render(stored: Path, presets: bool) -> Figure:
    """Draw a bar per block shape and one for all: bytes used and unused of what is bound."""
    found = parts("pool", stored)
    if presets:
        eager = parts("pool", stored, (SIMULATED,), "aegaeon_artifact")
        found[1:1] = [Part("the same, artifact’s rules", p.lines) for p in eager]
    line = "Pale: in slabs bound to a shape and unused, each bar at its own peak. Dashed: the paper"
    figure, axes = frame(len(found), GRID, "fig16", line)
    for ax, part in zip(axes, found, strict=True):
        _panel(ax, part)
    axes[0].set_ylabel("Of the peak allocation (%)", labelpad=2)
    return figure


def _panel(ax: Axes, part: Part) -> None:
    lines = _smallest(chosen(part.lines))
    bars: list[tuple[str, PoolUse]] = []
    for (shape, size), mine in lines.groupby(["shape", "block_bytes"]):
        bars.append((f"{shape}\n{_bytes(float(size))}", fragmentation(mine)))
    bars.append(("all\nshapes", fragmentation(lines)))
    colour = look("aegaeon").colour
    for position, (_, use) in enumerate(bars):
        used = 100 * (1 - use.share)
        ax.bar(position, 100, 0.66, color=colour, alpha=0.2, linewidth=0, zorder=2)
        ax.bar(position, used, 0.66, color=colour, linewidth=0, zorder=2)
        ax.text(
            position, 102, f"{100 * use.share:.0f} % of\n{_bytes(use.allocated)}",
            ha="center", fontsize=NOTE_SIZE, color=INK if position == len(bars) - 1 else GREY,
        )  # fmt: skip
    ax.axhline(PAPER_LIMIT, color=INK, linewidth=0.8, dashes=(4, 3))
    ax.set_xticks(range(len(bars)), [name for name, _ in bars])
    ax.set_ylim(0, 100)
    ax.grid(visible=False, axis="x")
    ax.set_xlabel("shape and bytes per block", labelpad=2)
    ax.set_title(part.title, pad=22)


def _smallest(lines: pd.DataFrame) -> pd.DataFrame:
    """Return the lines of one run: fewest models, lowest rate, first seed."""
    runs = lines[["num_models", "rate_rps", "seed", "config_hash"]].drop_duplicates()
    return lines[lines["config_hash"] == runs.sort_values(list(runs))["config_hash"].iloc[0]]


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"


FIGURES: Mapping[str, Render] = {"fig16": render}
