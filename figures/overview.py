"""Overview for the README: models at 90 % attainment per system, ours beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aegaeon.results.store import load_stored
from aegaeon.scoring.goodput import Sweep, sweep
from figures.attainment import Panel, Render
from figures.canvas import Grid, canvas, footnote, provenance
from figures.header import load_label
from figures.paper import Reference, Stated, references
from figures.style import GREY, INK, LABEL_SIZE, MAIN, NOTE_SIZE, ROW_SIZE, Look, look

PANELS = (
    Panel("fig11a", "0.1 req/s per model"),
    Panel("fig11b", "0.5 req/s per model"),
    Panel("fig13a", "0.1 req/s, SLO ×0.5"),
    Panel("fig13b", "0.1 req/s, SLO ×0.3"),
)
GRID = Grid(
    width=1.75, height=1.1, left=0.14, right=0.14, top=0.3, bottom=0.42, note=0.22, names=1.0
)


def render(stored: Path, presets: bool) -> Figure:
    """Draw one row of panels, a bar per system, hollow diamonds where the paper states a value."""
    del presets
    figure, axes = canvas(1, len(PANELS), GRID)
    sweeps = [sweep(load_stored(panel.name, stored), panel.name) for panel in PANELS]
    for ax, panel, data in zip(axes, PANELS, sweeps, strict=True):
        _bars(ax, data, references().get(panel.name, Reference()))
        ax.set_title(panel.title, fontsize=9)
    for row, name in enumerate(MAIN):
        axes[0].annotate(
            look(name).label, (0, row), (-6, 0), ("axes fraction", "data"), "offset points",
            ha="right", va="center_baseline", fontsize=LABEL_SIZE, color=look(name).ink,
            weight="bold" if row == 0 else "normal",
        )  # fmt: skip
    sources = " / ".join(dict.fromkeys(provenance(data) for data in sweeps))
    footnote(figure, GRID, [f"{sources}. ◇ stated by the paper"])
    return figure


def _bars(ax: Axes, data: Sweep, reference: Reference) -> None:
    """Draw a bar per system as long as its load at 90 %."""
    for row, name in enumerate(MAIN):
        if name in data.mean:
            at = data.crossing(name)
            length = at.x if at else 0.0
            ax.barh(row, length, height=0.56, color=look(name).colour, alpha=0.85, zorder=2)
            label = load_label(at, float(data.mean.index[0]), data.axis)
            _numbers(ax, (length, row), label, look(name), reference.models.get(name))
    ax.set_ylim(len(MAIN) - 0.5, -0.5)
    ax.set_yticks([])
    ax.set_xlim(0, 105)
    ax.set_xticks([0, 20, 40, 60, 80])
    ax.grid(visible=False)
    ax.grid(visible=True, axis="x")
    ax.set_xlabel("Models at 90 % attainment", labelpad=2)


def _numbers(
    ax: Axes, end: tuple[float, float], ours: str, style: Look, stated: Stated | None
) -> None:
    """Write our number at a bar's end and the paper's beside it, with its diamond on the bar."""
    length, row = end
    edge = length if stated is None else max(length, stated.value + 2.5)
    label = ax.annotate(
        ours, (edge, row), (3, 0), "data", "offset points", va="center_baseline",
        fontsize=ROW_SIZE, weight="bold", color=style.ink, zorder=4,
    )  # fmt: skip
    if stated is None:
        return
    ax.plot(
        [stated.value], [row], "D", markersize=4.5, zorder=5,
        markerfacecolor="white", markeredgecolor=INK, markeredgewidth=0.9,
    )  # fmt: skip
    ax.annotate(
        f"◇ {stated.bound}{stated.value:g}", (1, 0), (3, 0), label, "offset points",
        fontsize=NOTE_SIZE, color=GREY, va="bottom",
    )  # fmt: skip


FIGURES: Mapping[str, Render] = {"overview": render}
