"""Fig. 14: where the time of all requests goes, per set-up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.attainment import Render
from figures.canvas import Grid
from figures.distributions import Part, frame, key, parts, setups
from figures.style import GREY, INK, NOTE_SIZE

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
WRITTEN = 7.0


def render(stored: Path, presets: bool) -> Figure:
    """Draw a panel per source with a stacked bar per set-up."""
    del presets
    found = parts("requests", stored)
    line = "Sums over finished requests; above each bar the mean seconds from arrival to last token"
    figure, axes = frame(len(found), GRID, "fig14", line)
    for ax, part in zip(axes, found, strict=True):
        _panel(ax, part)
    axes[0].set_ylabel("Share of time (%)", labelpad=2)
    return figure


def shares(lines: pd.DataFrame) -> tuple[pd.Series, float]:
    """Return each part's percentage of all requests' time, and the mean time of one in seconds."""
    seconds = lines[list(PARTS)].dropna().astype(float).clip(lower=0.0)
    total = seconds.sum()
    return 100 * total / total.sum(), float(seconds.sum(axis=1).mean())


def _panel(ax: Axes, part: Part) -> None:
    names = []
    for position, (name, lines) in enumerate(setups(part.lines)):
        percent, mean = shares(lines)
        names.append(name)
        bottom = 0.0
        for column, (_, colour) in PARTS.items():
            height = float(percent[column])
            ax.bar(position, height, 0.66, bottom, color=colour, linewidth=0)
            if height >= WRITTEN:
                ax.text(
                    position, bottom + height / 2, f"{height:.0f}", ha="center", va="center",
                    fontsize=NOTE_SIZE, color="white" if column in EXECUTION else INK,
                )  # fmt: skip
            bottom += height
        ax.text(position, 102, f"{mean:.3g} s", ha="center", fontsize=NOTE_SIZE, color=GREY)
    ax.set_xticks(range(len(names)), names)
    ax.set_ylim(0, 100)
    ax.grid(visible=False, axis="x")
    ax.set_xlabel("models × requests/s each", labelpad=2)
    ax.set_title(part.title, pad=16)
    key(ax, list(PARTS.values())[::-1], 0.75)


FIGURES: Mapping[str, Render] = {"fig14": render}
