"""Microsoft Azure's LLM inference traces of 2023 and 2024."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from workloads.readers.cells import read_csv_cells, reject, tokens
from workloads.readers.trace import Trace, make_trace

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_DAY_AND_CLOCK = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:"


def read_azure(path: Path) -> Trace:
    """Read an Azure CSV; the earliest request arrives at 0.

    Raises `UserError` naming file, line and reason.
    """
    cells = read_csv_cells(path, COLUMNS)
    times = pd.to_datetime(cells["TIMESTAMP"], format="ISO8601", errors="coerce", utc=True)
    # The pattern keeps out what pandas takes for a time besides, such as "-1" or "now".
    good = cells["TIMESTAMP"].str.match(_DAY_AND_CLOCK) & times.notna()
    reject(path, cells["TIMESTAMP"], ~good.to_numpy(np.bool_), "a date and time")
    return make_trace(
        path,
        np.asarray((times - times.min()).dt.total_seconds(), dtype=np.float64),
        tokens(path, cells, "ContextTokens"),
        tokens(path, cells, "GeneratedTokens"),
    )
