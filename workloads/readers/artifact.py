"""The public artifact's workload CSV: read and written at millisecond resolution."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from aegaeon.core import Arrival
from aegaeon.errors import UserError
from aegaeon.files import write_text
from workloads.readers.cells import csv_cells, reject, tokens
from workloads.readers.trace import Trace, make_trace

COLUMNS = ("Request Time", "Model Name", "Input Length", "Output Length")
_CLOCK = r"^(\d{1,6}):([0-5]\d):([0-5]\d(?:\.\d{1,9})?)$"
_NUMBER = re.compile(r"[0-9]{1,9}$")


def read_artifact(path: Path) -> Trace:
    """Read a `synth-*.csv`; times are kept as written, labels end in the model's number.

    Raises `UserError` naming file, line and reason.
    """
    cells = pd.concat([*csv_cells(path, COLUMNS)] or [pd.DataFrame(columns=COLUMNS, dtype=str)])
    clock = cells["Request Time"].str.extract(_CLOCK, flags=re.ASCII)
    reject(path, cells["Request Time"], clock[0].isna().to_numpy(), "a time as HH:MM:SS.mmm")
    hours, minutes, seconds = (pd.to_numeric(clock[i]).to_numpy(np.float64) for i in range(3))
    numbered = cells["Model Name"].str.contains(_NUMBER).to_numpy(np.bool_)
    reject(path, cells["Model Name"], ~numbered, "a name that ends in the model's number")
    return make_trace(
        path,
        hours * 3600 + minutes * 60 + seconds,
        tokens(path, cells, "Input Length"),
        tokens(path, cells, "Output Length"),
        pd.Categorical(cells["Model Name"]),
    )


def model_number(name: str) -> int:
    """Return the number a model's name ends in (`synth_model_08` -> 8); `UserError` if none."""
    match = _NUMBER.search(name)
    if not match:
        raise UserError(f"model {name!r}: expected a name that ends in a number, as model_007")
    return int(match.group())


def write_artifact_csv(arrivals: Sequence[Arrival], path: Path) -> None:
    """Write arrivals as the artifact's simulator reads them, atomically.

    Model `model_007` becomes `synth_model_07`; arrivals are rounded to milliseconds. Raises
    `UserError` if a name ends in no number, two names end in the same one, or on a full disk.
    """
    requests = [a.request for a in arrivals]
    numbers = {name: model_number(name) for name in sorted({r.model for r in requests})}
    if len(set(numbers.values())) < len(numbers):
        raise UserError(f"{path}: two models end in the same number; rename one: {list(numbers)}")
    lines = [
        f"{_clock(a.request.arrival)},synth_model_{numbers[a.request.model]:02d},"
        f"{a.request.input_tokens},{a.output_tokens}"
        for a in sorted(arrivals, key=lambda a: a.request.arrival)
    ]
    write_text("\n".join([",".join(COLUMNS), *lines, ""]), path)


def _clock(arrival: float) -> str:
    minutes, milliseconds = divmod(round(arrival * 1000), 60_000)
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}.{milliseconds:03d}"
