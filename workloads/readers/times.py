"""The unit of a trace's times. The format or the key `workload.time_unit` names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aegaeon.errors import UserError
from workloads.readers.cells import reject

PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
DATE = "date"
UNITS = ("", *PER_SECOND, DATE)
"""Values of `workload.time_unit`; empty is the format's own unit."""

# Seconds of 2001-09-09 and 2096-10-02: no trace of offsets is that long.
_EPOCH = (1e9, 4e9)
_DAY_AND_CLOCK = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:"


Stamps = NDArray[np.float64] | NDArray[np.int64]
"""Times as a file has them: numbers in its unit, or whole nanoseconds for dates."""


def offsets(path: Path, values: Stamps, unit: str, named_by_key: bool) -> NDArray[np.float64]:
    """Return times in seconds from the earliest one; `values` are in `unit`.

    Epoch stamps tell their own unit. Raises `UserError` if the stamps are in another unit than the
    format's, which only the key can confirm.
    """
    if not len(values):
        return np.empty(0)
    start = values.min()
    stamp = "" if unit == DATE else _epoch_unit(float(start))
    if stamp and stamp != unit and not named_by_key:
        raise UserError(
            f"{path}: the earliest time, {start:.0f}, is an epoch stamp in {stamp}, but the format "
            f"has {unit}; set workload.time_unit={stamp}"
        )
    return np.asarray((values - start) / PER_SECOND["ns" if unit == DATE else unit])


def dates(path: Path, column: pd.Series[str]) -> NDArray[np.int64]:
    """Return dates with a clock time as nanoseconds since 1970; `UserError` names a bad line.

    A column of plain numbers is refused with the unit that its epoch stamps have.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    if len(column) and numbers.notna().all() and (unit := _epoch_unit(float(numbers.min()))):
        raise UserError(
            f"{path}, line {column.index[0]}: {column.name}: {column.iloc[0]!r} is an epoch stamp "
            f"in {unit}, the format has dates; set workload.time_unit={unit}"
        )
    times = pd.to_datetime(column, format="ISO8601", errors="coerce", utc=True)
    # The pattern keeps out what pandas takes for a time besides, such as "-1" or "now".
    good = column.str.match(_DAY_AND_CLOCK) & times.notna()
    reject(path, column, ~good.to_numpy(np.bool_), "a date and time")
    return np.asarray(times.dt.as_unit("ns").astype("int64"), dtype=np.int64)


def _epoch_unit(value: float) -> str:
    return next((u for u, n in PER_SECOND.items() if _EPOCH[0] <= value / n < _EPOCH[1]), "")
