"""Overview for the README: models at 90 % attainment per system, ours and the paper's."""

from __future__ import annotations

from pathlib import Path

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aegaeon.results.store import load_own
from aegaeon.scoring.goodput import Curves, sweep
from figures.attainment import Panel
from figures.canvas import Grid, canvas, footnote, provenance
from figures.header import load_label
from figures.paper import Reference, Stated, references
from figures.style import (
    BARS,
    GREY,
    INK,
    LABEL_SIZE,
    MAIN,
    NOTE_SIZE,
    ROW_SIZE,
    Look,
    look,
    palette,
)

PANELS = (
    Panel("fig11a", "0.1 req/s per model"),
    Panel("fig11b", "0.5 req/s per model"),
    Panel("fig13a", "0.1 req/s, SLO ×0.5"),
    Panel("fig13b", "0.1 req/s, SLO ×0.3"),
)
GRID = Grid(
    width=1.75, height=1.1, left=0.14, right=0.14, top=0.3, bottom=0.42, note=0.22, names=1.32
)


def render(stored: Path) -> Figure:
    """Draw one row of panels, a bar per system, hollow diamonds where the paper states a value."""
    figure, axes = canvas(1, len(PANELS), GRID)
    sweeps = [sweep(load_own(panel.name, stored), panel.name) for panel in PANELS]
    for ax, panel, data in zip(axes, PANELS, sweeps, strict=True):
        _bars(ax, data, references().get(panel.name, Reference()))
        ax.set_title(panel.title, fontsize=9)
        ax.tick_params(axis="y", length=0, pad=6, labelleft=ax is axes[0])
    axes[0].set_yticks(range(len(MAIN)), [look(name).label for name in MAIN], fontsize=LABEL_SIZE)
    for label, name in zip(axes[0].get_yticklabels(), MAIN, strict=True):
        label.set(color=look(name).ink, weight="bold" if name == "aegaeon" else "normal")
    sources = " / ".join(dict.fromkeys(provenance(data, "their mean") for data in sweeps))
    footnote(figure, GRID, [f"{sources}. ◇ stated by the paper"])
    return figure


def _bars(ax: Axes, data: Curves, reference: Reference) -> None:
    """Draw a bar per system; the length is the system's load at 90 %."""
    found = {name: data.crossing(name) for name in MAIN if name in data.mean}
    loads = {name: at.x if at else 0.0 for name, at in found.items()}
    sns.barplot(
        x=list(loads.values()), y=list(loads), hue=list(loads), order=MAIN, palette=palette(loads),
        width=0.56, alpha=0.85, zorder=2, ax=ax, **BARS,
    )  # fmt: skip
    for name, at in found.items():
        label = load_label(at, float(data.curve(name).index[0]), data.axis)
        end = (loads[name], MAIN.index(name))
        _numbers(ax, end, label, look(name), reference.models.get(name))
    ax.set_xlim(0, 105)
    ax.set_xticks([0, 20, 40, 60, 80])
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.set_xlabel("Models at 90 % attainment", labelpad=2)


def _numbers(
    ax: Axes, end: tuple[float, float], ours: str, style: Look, stated: Stated | None
) -> None:
    """Write our number at a bar's end, then the paper's number; a diamond marks the paper's."""
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


FIGURES = {"overview": render}
