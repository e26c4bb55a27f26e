"""The head of a panel: title, Aegaeon's lead in words, and the loads at 90 %.

The loads at 90 % are two lines of numbers: ours, and the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes

from aegaeon.scoring.goodput import Crossing, Curves
from figures.canvas import POINTS_PER_INCH, Grid
from figures.labels import spread
from figures.paper import Reference
from figures.style import GREY, NOTE_SIZE, ROW_SIZE, look


def header(
    ax: Axes, title: str, data: Curves, systems: Sequence[str], reference: Reference, grid: Grid
) -> None:
    """Draw the head of a panel above its axes; the head has no numbers of presets."""
    _crossing_row(ax, data, [name for name in systems if not look(name).is_preset], grid)
    _paper_row(ax, reference, grid)
    lead = _ratios(data, reference) or reference.text
    above = partial(ax.annotate, xy=(0, 1), xycoords="axes fraction", textcoords="offset points")
    above(title, xytext=(0, 45), weight="bold", fontsize=9.5)
    above(lead, xytext=(0, 34), fontsize=NOTE_SIZE + 0.4, color=GREY)


def _crossing_row(ax: Axes, data: Curves, systems: Sequence[str], grid: Grid) -> None:
    """Mark each curve's load at 90 %: a thin line, and the load above the panel."""
    found = {name: data.crossing(name) for name in systems}
    marks = []
    for name in systems:
        at = found[name]
        if at is not None and not at.open_ended:
            ax.axvline(at.x, color=look(name).colour, linewidth=0.8, alpha=0.65, zorder=1.4)
        first = float(data.curve(name).index[0])
        marks.append((name, at.x if at else first, load_label(at, first, data.axis)))
    _row(ax, "ours", marks, 6, grid)


def _paper_row(ax: Axes, reference: Reference, grid: Grid) -> None:
    """Mark the loads that the paper states: diamonds on the top edge, with the loads above."""
    marks = []
    for name, stated in reference.models.items():
        ax.plot(
            [stated.value], [1], "D", transform=ax.get_xaxis_transform(), clip_on=False,
            markersize=4.5, markerfacecolor="white", markeredgecolor=look(name).colour, zorder=5,
        )  # fmt: skip
        marks.append((name, stated.value, f"{stated.bound}{stated.value:g}"))
    if marks:
        _row(ax, "paper ◇", marks, 18, grid)


def _row(
    ax: Axes, title: str, marks: list[tuple[str, float, str]], height: float, grid: Grid
) -> None:
    left, right = ax.get_xlim()
    point = (right - left) / (grid.width * POINTS_PER_INCH)
    sizes = [(0.64 * ROW_SIZE * len(text) + 3.5) * point for *_, text in marks]
    places = spread([x for _, x, _ in marks], sizes, left, right + 15 * point)
    row = ("data", "axes fraction")
    for (name, _, text), place in zip(marks, places, strict=True):
        ax.annotate(
            text, (place, 1), (0, height), row, "offset points",
            ha="center", fontsize=ROW_SIZE, color=look(name).ink, weight="bold",
        )  # fmt: skip
    ax.annotate(
        title, (0, 1), (-6, height), "axes fraction", "offset points",
        ha="right", fontsize=NOTE_SIZE, color=GREY,
    )  # fmt: skip


def load_label(at: Crossing | None, first: float, axis: str) -> str:
    """Return a crossing as text: whole models or req/s.

    `≥` marks a sweep that ends above 90 %, `<` a sweep that begins below 90 %.
    """
    if at is None:
        return f"<{number(first, axis)}"
    return f"{'≥' if at.open_ended else ''}{number(at.x, axis)}"


def number(load: float, axis: str) -> str:
    """Return a load as text: whole models, or req/s with two decimals."""
    return f"{math.floor(load + 1e-9)}" if axis == "num_models" else f"{load:.2f}"


def _ratios(data: Curves, reference: Reference) -> str:
    """Return Aegaeon's load at 90 % over a baseline's load at 90 %, as text.

    The text has up to three ratios: ours, ours with the authors' setting, and the paper's.
    """
    parts = []
    for name in reference.ratios or ("serverlessllm",):
        if not {"aegaeon", name} <= set(data.mean):
            continue
        ratios = [f"ours {_ratio(data, name)}"]
        if (authors := f"{name}_paper") in data.mean:
            ratios.append(f"authors’ setting {_ratio(data, authors)}")
        if stated := reference.ratios.get(name):
            ratios.append(f"paper {stated.bound}{stated.value:g}×")
        parts.append(f"Over {look(name).label}: {', '.join(ratios)}")
    return " · ".join(parts)


def _ratio(data: Curves, name: str) -> str:
    ours, other = data.crossing("aegaeon"), data.crossing(name)
    if ours is None:
        return "–"
    bound = "≥" if ours.open_ended else "≤" if other and other.open_ended else ""
    least = other.x if other else float(data.curve(name).index[0])
    return f"{bound if other else '>'}{ours.x / least:.1f}×"
