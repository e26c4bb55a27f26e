"""Goodput of a sweep: the largest load a system carries with 90 % of its tokens on time.

Figures and claims both use this module: a number in a plot and in the claims table is one number.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from aegaeon.errors import UserError
from aegaeon.results.swept import load_axis, loads, swept
from aegaeon.results.variant import check_curves, check_points

LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Crossing:
    """The load at which a curve falls below the level; `open_ended` when the sweep ends first."""

    x: float
    open_ended: bool = False


def crossing(x: Sequence[float], y: Sequence[float], level: float = LEVEL) -> Crossing | None:
    """Return the largest x up to which the curve y(x) stays at `level` or above.

    The first fall is interpolated linearly. None when the first point is below already; open-ended
    at the last x when the curve never falls. Raises ValueError on unequal lengths or an x
    that does not increase.
    """
    points = list(zip(map(float, x), map(float, y), strict=True))
    if any(right[0] <= left[0] for left, right in pairwise(points)):
        raise ValueError(f"crossing needs increasing x, got {list(x)}")
    if not points or points[0][1] < level:
        return None
    for (x0, y0), (x1, y1) in pairwise(points):
        if y1 < level:
            return Crossing(min(x1, x0 + (x1 - x0) * (y0 - level) / (y0 - y1)))
    return Crossing(points[-1][0], open_ended=True)


@dataclass(frozen=True, slots=True)
class Curves:
    """One stored experiment as curves over its load.

    Attributes:
        axis: the column that is swept, `num_models` or `rate_rps`.
        runs: the stored rows, one a curve, load and seed; `system` names the curve.
        mean: attainment in [0, 1], mean of the seeds; index load, one column a curve, NaN where a
            curve has no run. Rows with overrides are a curve of their own (`curve_name`).
        source, hardware, gpus, seeds: what the runs have in common.
        costs: the origins of the costs, joined by `; `.
        span: the least and the largest load, those included that only the experiment's file lists.
    """

    axis: str
    runs: pd.DataFrame
    mean: pd.DataFrame
    source: str
    hardware: str
    gpus: int
    seeds: int
    costs: str
    span: tuple[float, float]

    def curve(self, system: str) -> pd.Series[float]:
        """Return a mean curve over the loads that were run; KeyError if it has no runs."""
        return self.mean[system].dropna()

    def crossing(self, system: str) -> Crossing | None:
        """Return the crossing of a mean curve at 90 %; KeyError if it has no runs."""
        mean = self.curve(system)
        return crossing(mean.index.tolist(), mean.tolist())


def curve_name(system: str, overrides: str) -> str:
    """Return the name of a curve: the system, and what differs from the experiment's file."""
    return f"{system} {overrides}".strip()


def sweep(table: pd.DataFrame, name: str, metric: str = "slo_attainment") -> Curves:
    """Turn the stored table `name` into curves.

    `metric` is the column of attainment to draw: slo_attainment, artifact_qos, joint_attainment.
    Raises `UserError` if the table mixes sources or hardware among its own rows, or two
    configurations under one curve and load.
    """
    if table.empty:
        raise UserError(f"stored table {name} has no rows; run the experiment {name} first")
    axis = load_axis(name) or ("num_models" if table["num_models"].nunique() > 1 else "rate_rps")
    names = [curve_name(*pair) for pair in zip(table["system"], table["overrides"], strict=True)]
    runs = table.assign(system=names)
    check_points(runs, ["system", axis], name)
    check_curves(runs, name)
    mine = table[table["overrides"] == ""]
    mine = table if mine.empty else mine
    every = [*runs[axis].astype(float), *loads(name)]
    return Curves(
        axis=axis,
        runs=runs,
        mean=runs.groupby(["system", axis])[metric].mean().unstack("system"),
        source=str(common(table, "source", name)),
        hardware=str(common(mine, "hardware", name)),
        gpus=int(common(mine, "gpus", name)),
        seeds=int(runs.groupby(["system", axis])["seed"].nunique().max()),
        costs="; ".join(sorted(set(table["costs"]))),
        span=(min(every), max(every)),
    )


def lacking(table: pd.DataFrame, name: str, systems: Collection[str] = ()) -> str:
    """Return what a stored table lacks of its experiment's own systems and loads, in words.

    `systems` chooses some systems, else all count. The text is empty if nothing is lacking, and if
    no file of the experiment lists its loads.
    """
    axis, listed = load_axis(name), swept(name)
    if not axis:
        return ""
    mine = table[table["overrides"] == ""]
    mine = mine[mine["system"].isin(systems)] if systems else mine
    wanted = systems or listed.get("system", [])
    absent = [system for system in wanted if system not in set(mine["system"])]
    parts = [f"no {_several(absent)}"] if absent else []
    known = loads(name)
    for system, run in mine.groupby("system")[axis].unique().items():
        absent = [f"{load:g}" for load in known if load not in set(run)]
        parts += [f"{system} without {_several(absent)}"] if absent else []
    return f"Part of {name}: {'; '.join(parts)}" if parts else ""


def _several(items: list[str], shown: int = 3) -> str:
    more = len(items) - shown
    return ", ".join(items[:shown]) + (f" and {more} more" if more > 0 else "")


def common(table: pd.DataFrame, column: str, name: str) -> Any:  # noqa: ANN401
    """Return the one value of a column; UserError when the rows differ."""
    values = sorted(table[column].unique())
    if len(values) != 1:
        raise UserError(
            f"stored table {name}: column {column} holds {values}, expected one value; "
            "store these runs under different experiment names"
        )
    return values[0]


@dataclass(frozen=True, slots=True)
class PoolUse:
    """Bytes of a host KV pool at one moment: in blocks, and in slabs bound to a block size."""

    used: float
    allocated: float

    @property
    def share(self) -> float:
        """Fragmentation: the part of what is bound that holds nothing."""
        return 1 - self.used / self.allocated if self.allocated else 0.0


def fragmentation(pool: pd.DataFrame) -> PoolUse:
    """Return the use of one run's pools when most was allocated (paper figure 16).

    `pool` has lines of the table `pool` of one run, all of them or those of one block size; nodes
    count together. Of several peaks the fullest counts.
    """
    use = pool.groupby("time_s")[["allocated_bytes", "used_bytes"]].sum()
    peak = use.sort_values(["allocated_bytes", "used_bytes"]).iloc[-1]
    return PoolUse(float(peak["used_bytes"]), float(peak["allocated_bytes"]))
