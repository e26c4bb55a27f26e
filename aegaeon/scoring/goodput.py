"""Goodput of a sweep: the largest load a system carries with 90 % of its tokens on time.

Figures and claims both use this module: a number in a plot and in the claims table is one number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from aegaeon.errors import UserError

LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Crossing:
    """The load at which a curve falls below the level; `open_ended` when the sweep ends first."""

    x: float
    open_ended: bool = False


def crossing(x: Sequence[float], y: Sequence[float], level: float = LEVEL) -> Crossing | None:
    """Return the largest x up to which the curve y(x) stays at `level` or above.

    The first fall is interpolated linearly. None when the first point is below already; open-ended
    at the last x when the curve never falls. A NaN says that the system could not run at that
    load: the curve ends exactly at the point before. Raises ValueError on unequal lengths or an x
    that does not increase.
    """
    points = list(zip(map(float, x), map(float, y), strict=True))
    if any(right[0] <= left[0] for left, right in pairwise(points)):
        raise ValueError(f"crossing needs increasing x, got {list(x)}")
    if not points or not points[0][1] >= level:
        return None
    for (x0, y0), (x1, y1) in pairwise(points):
        if math.isnan(y1):
            return Crossing(x0)
        if y1 < level:
            return Crossing(min(x1, x0 + (x1 - x0) * (y0 - level) / (y0 - y1)))
    return Crossing(points[-1][0], open_ended=True)


@dataclass(frozen=True, slots=True)
class Sweep:
    """One stored experiment as curves over its load.

    Attributes:
        axis: the column that is swept, `num_models` or `rate_rps`.
        runs: the stored rows, one a system, load and seed.
        mean: attainment in [0, 1], mean of the seeds; index load, one column a system, NaN where a
            system has no run.
        source, hardware, gpus, seeds: what the runs have in common.
    """

    axis: str
    runs: pd.DataFrame
    mean: pd.DataFrame
    source: str
    hardware: str
    gpus: int
    seeds: int

    def crossing(self, system: str) -> Crossing | None:
        """Return the crossing of a system's mean curve at 90 %; KeyError if it has no runs."""
        return crossing(self.mean.index.tolist(), self.mean[system].tolist())


def sweep(table: pd.DataFrame, name: str, metric: str = "slo_attainment") -> Sweep:
    """Turn the stored table `name` into curves; UserError if it mixes sources or hardware.

    `metric` is the column of attainment to draw: slo_attainment, artifact_qos, joint_attainment.
    """
    if table.empty:
        raise UserError(f"stored table {name} has no rows; run the experiment {name} first")
    axis = "num_models" if table["num_models"].nunique() > 1 else "rate_rps"
    return Sweep(
        axis=axis,
        runs=table,
        mean=table.groupby(["system", axis])[metric].mean().unstack("system"),
        source=str(common(table, "source", name)),
        hardware=str(common(table, "hardware", name)),
        gpus=int(common(table, "gpus", name)),
        seeds=int(table["seed"].nunique()),
    )


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
