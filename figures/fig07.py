"""Fig. 7: what a switch costs by how the weights come, from a new engine to a prefetch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.attainment import Render
from figures.canvas import Grid
from figures.distributions import SIMULATED, Part, frame, parts
from figures.style import GREY, INK, LABEL_SIZE, NOTE_SIZE, look

# Not a way to switch, but what copying as many bytes costs.
REFERENCE = "memcpy"
EXPERIMENTS = (SIMULATED, "live_fig07")
GRID = Grid(width=2.4, height=1.5, left=1.35, right=0.75, top=0.44)


def render(stored: Path, presets: bool) -> Figure:
    """Draw a panel per source with a bar per stage of the largest model, slowest first."""
    del presets
    found = parts("stages", stored, EXPERIMENTS)
    line = "Simulated: weights alone, by the cost model. Behind ÷: the factor to the bar above"
    figure, axes = frame(len(found), GRID, "fig07", line)
    for ax, part in zip(axes, found, strict=True):
        _panel(ax, part)
    return figure


def _panel(ax: Axes, part: Part) -> None:
    lines = part.lines
    model = str(lines.sort_values("bytes")["model"].iloc[-1])
    mine = lines[lines["model"] == model]
    stages = mine.groupby(["order", "stage"], as_index=False)["seconds"].median()
    least = float(stages["seconds"].min())
    before = None
    for row, (name, seconds) in enumerate(zip(stages["stage"], stages["seconds"], strict=True)):
        reference = name == REFERENCE
        colour = GREY if reference else look("aegaeon").colour
        ax.barh(row, seconds, 0.6, color=colour, alpha=0.6 if reference else 0.85)
        factor = f"  ÷ {_factor(before / seconds)}" if before and not reference else ""
        ax.annotate(
            f"{_seconds(seconds)}{factor}", (seconds, row), (3, 0), "data", "offset points",
            va="center_baseline", fontsize=NOTE_SIZE, color=INK,
        )  # fmt: skip
        ax.annotate(
            name, (0, row), (-5, 0), ("axes fraction", "data"), "offset points",
            ha="right", va="center_baseline", fontsize=LABEL_SIZE, color=INK,
        )  # fmt: skip
        before = seconds
    ax.set_xscale("log")
    ax.set_xlim(10 ** _floor(least), 1.2 * float(stages["seconds"].max()))
    ax.set_ylim(len(stages) - 0.4, -0.6)
    ax.set_yticks([])
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("Seconds", labelpad=2)
    size = float(mine["bytes"].max())
    amount = f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
    ax.annotate(
        f"{model}, {amount}", (0, 1), (0, 4), "axes fraction", "offset points",
        fontsize=NOTE_SIZE, color=GREY,
    )  # fmt: skip
    ax.set_title(part.title, pad=14)


def _floor(value: float) -> int:
    """Return the power of ten below a value, with room for its bar."""
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


FIGURES: Mapping[str, Render] = {"fig07": render}
