"""BurstGPT's traces of a campus service over ChatGPT and GPT-4."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workloads.readers.cells import read_csv_cells, seconds, tokens
from workloads.readers.trace import Trace, make_trace

COLUMNS = ("Timestamp", "Model", "Request tokens", "Response tokens")


def read_burstgpt(path: Path) -> Trace:
    """Read a BurstGPT CSV, with or without its session and elapsed-time columns.

    The earliest kept request arrives at 0. Rows without response tokens are failed requests; they
    are left out and counted in `skipped`. Raises `UserError` naming file, line and reason.
    """
    cells = read_csv_cells(path, COLUMNS)
    outputs = tokens(path, cells, "Response tokens", minimum=0)
    answered = outputs > 0
    kept = cells.loc[answered]
    times = seconds(path, kept, "Timestamp")
    return make_trace(
        path,
        times - times.min(initial=np.inf),
        tokens(path, kept, "Request tokens"),
        outputs[answered],
        kept["Model"].to_numpy(np.str_),
        skipped=int((~answered).sum()),
    )
