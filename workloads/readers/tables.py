"""Traces with one request a line, as CSV or JSON lines: what their columns are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workloads.readers.arrow import fast_columns
from workloads.readers.cells import (
    MAX_TOKENS,
    csv_cells,
    header,
    jsonl_cells,
    numbers,
    tokens,
)
from workloads.readers.times import DATE, Stamps, dates, offsets
from workloads.readers.trace import Trace, make_trace


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns of a format.

    Attributes:
        time, unit: column of the arrival and its unit (`s`, `ms`, `us`, `ns` or `date`).
        inputs, outputs: columns of prompt and answer lengths in tokens.
        label: column of the model's name; None when there is none.
        lines: a file has JSON lines, not CSV.
        failed: a row without output tokens is a failed request, which is left out.
        untimed: a file may lack the column of the arrival.
    """

    time: str
    unit: str
    inputs: str
    outputs: str
    label: str | None = None
    lines: bool = False
    failed: bool = False
    untimed: bool = False


LAYOUTS = {
    "azure": Layout("TIMESTAMP", DATE, "ContextTokens", "GeneratedTokens"),
    "bailian": Layout("timestamp", "s", "input_length", "output_length", lines=True),
    "burstgpt": Layout(
        "Timestamp", "s", "Request tokens", "Response tokens", label="Model", failed=True
    ),
    "mooncake": Layout("timestamp", "ms", "input_length", "output_length", lines=True),
    "servegen": Layout("timestamp", "s", "input_tokens", "output_tokens"),
    "splitwise": Layout("arrival_timestamp", "s", "prompt_size", "token_size"),
    "vidur": Layout("arrived_at", "s", "num_prefill_tokens", "num_decode_tokens", untimed=True),
}


@dataclass(frozen=True, slots=True)
class _Columns:
    """Kept rows as read: times in the file's unit (None without times), lengths, labels."""

    times: Stamps | None
    inputs: NDArray[np.int64]
    outputs: NDArray[np.int64]
    labels: pd.Categorical | None
    skipped: int


def read_table(path: Path, layout: Layout, unit: str = "", skip_empty: bool = False) -> Trace:
    """Read a trace; the earliest kept request arrives at 0.

    `unit` takes the place of the format's unit. With `skip_empty`, rows without prompt or answer
    tokens are left out. Rows left out are counted. Raises `UserError` with file, line and reason.
    """
    timed = not layout.untimed or layout.time in header(path)
    own = unit or layout.unit
    found = None if layout.lines else _fast(path, layout, own, skip_empty, timed)
    if found is None:
        found = _joined([*_careful(path, layout, own, skip_empty, timed)])
    times = found.times
    if times is not None:
        times = offsets(path, times, own, bool(unit))
    return make_trace(path, times, found.inputs, found.outputs, found.labels, found.skipped)


def _fast(path: Path, layout: Layout, unit: str, skip_empty: bool, timed: bool) -> _Columns | None:
    names = [layout.inputs, layout.outputs, *([layout.time] if timed else [])]
    date = layout.time if unit == DATE and timed else None
    answer = fast_columns(path, names, layout.label, date)
    if answer is None:
        return None
    (inputs, outputs, *times), labels = answer
    empty = (inputs == 0) | (outputs == 0)
    kept = ~empty if skip_empty else outputs != 0 if layout.failed else np.ones(len(inputs), bool)
    skipped = int(len(kept) - kept.sum())
    if skipped:
        inputs, outputs, times = inputs[kept], outputs[kept], [t[kept] for t in times]
        labels = None if labels is None else labels[kept]
    whole = [(c >= 1) & (c <= MAX_TOKENS) & (c == np.floor(c)) for c in (inputs, outputs)]
    good = all(w.all() for w in whole) and all(np.isfinite(t).all() for t in times)
    if not good or (date is None and any((t < 0).any() for t in times)):
        return None
    lengths = (inputs.astype(np.int64), outputs.astype(np.int64))
    return _Columns(times[0] if times else None, *lengths, labels, skipped)


def _careful(
    path: Path, layout: Layout, unit: str, skip_empty: bool, timed: bool
) -> Iterator[_Columns]:
    label = [layout.label] if layout.label else []
    names = [*([layout.time] if timed else []), *label, layout.inputs, layout.outputs]
    reader = jsonl_cells if layout.lines else csv_cells
    convert: Callable[[Path, pd.Series[str]], Stamps]
    convert = dates if unit == DATE else partial(_numbers, layout.time)
    for cells in reader(path, names):
        rows = len(cells)
        if skip_empty:
            cells = cells[~(_empty(cells[layout.inputs]) | _empty(cells[layout.outputs]))]
        elif layout.failed:
            tokens(path, cells, layout.outputs, minimum=0)
            cells = cells[pd.to_numeric(cells[layout.outputs]) > 0]
        yield _Columns(
            convert(path, cells[layout.time]) if timed else None,
            tokens(path, cells, layout.inputs),
            tokens(path, cells, layout.outputs),
            pd.Categorical(cells[layout.label]) if layout.label else None,
            rows - len(cells),
        )


def _numbers(name: str, path: Path, column: pd.Series[str]) -> NDArray[np.float64]:
    return numbers(path, column.to_frame(name), name)


def _empty(column: pd.Series[str]) -> pd.Series[bool]:
    return (column.str.strip() == "") | (pd.to_numeric(column, errors="coerce") == 0)


def _joined(parts: list[_Columns]) -> _Columns:
    none = np.empty(0)
    if not parts:
        return _Columns(none, none.astype(np.int64), none.astype(np.int64), None, 0)
    times = [part.times for part in parts if part.times is not None]
    labels = [part.labels for part in parts if part.labels is not None]
    return _Columns(
        cast(Stamps, np.concatenate(times)) if times else None,
        np.concatenate([part.inputs for part in parts]),
        np.concatenate([part.outputs for part in parts]),
        pd.Categorical(np.concatenate([np.asarray(own, dtype=object) for own in labels]))
        if labels
        else None,
        sum(part.skipped for part in parts),
    )
