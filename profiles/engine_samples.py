"""Samples that `aegaeon profile` measured, and the statistics that fits take of them.

Samples are rows of `COLUMNS`. While an instance measures, the others are idle, unless the kind ends
in `_crowd`. A time is the median over rounds and models of a type, then the mean over instances.
Rows of what an instance never does in a run (`plays` is false) do not count.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from profiles.leastsq import relative, six_digits

COLUMNS = (
    *("instance", "plays", "kind", "stage", "type"),
    *("tokens", "batch", "steps", "nbytes", "seconds"),
)
POINT = ["tokens", "batch"]


def points(samples: pd.DataFrame, kind: str, by: list[str] | None = None) -> pd.DataFrame:
    """Return one row per point (columns `by`, default tokens and batch) with its `seconds`."""
    by = by or POINT
    mine = samples[(samples["kind"] == kind) & samples["plays"]]
    each = mine.groupby([*by, "instance"])["seconds"].median()
    return each.groupby(level=by).mean().reset_index()


def typical(samples: pd.DataFrame, kind: str) -> float:
    """Return the median seconds of a kind, 0 where nothing was measured."""
    seconds = samples.loc[(samples["kind"] == kind) & samples["plays"], "seconds"]
    return six_digits(max(0.0, float(seconds.median()))) if len(seconds) else 0.0


def by_bytes(samples: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return one row per size of a kind's copies (`nbytes`) with its `seconds`."""
    return points(samples, kind, ["nbytes"])


def line(found: pd.DataFrame) -> tuple[float, float]:
    """Return the fixed seconds and the seconds per byte of copies, neither below 0."""
    sizes, seconds = (found[name].to_numpy(dtype=float) for name in ("nbytes", "seconds"))
    x = np.stack([np.ones(len(sizes)), sizes], axis=1)
    base, slope = relative(x, seconds).tolist()
    # Where the fixed part hides a byte's time, a byte gets a hundredth of the whole.
    return six_digits(base), six_digits(slope or float((seconds / sizes).min()) / 100)
