"""Traces that were read before, as Parquet files named by the content that they came from.

A large text file is parsed once. Later runs read the rows of their window. A file of the cache may
be deleted at any time; where the cache cannot be written, every run parses the text.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aegaeon.errors import UserError
from aegaeon.files import atomic
from workloads.readers.files import unreadable
from workloads.readers.trace import Trace

VERSION = 1
"""Part of every name: raise it when a reader gives other rows for the same file."""

FROM_BYTES = 8 << 20
"""Smaller files are parsed each time."""

_ROWS_PER_GROUP = 100_000


def folder() -> Path:
    """Return the folder of the cache, below the user's folder for caches."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "aegaeon" / "traces"


def cached(
    path: Path, how: str, read: Callable[[], Trace], window: tuple[float, float] | None
) -> Trace:
    """Return the trace of `read`, from the cache if the file is large and was read before.

    `how` tells apart ways to read one file. `window` (seconds from, until) leaves out what arrives
    outside of it, for a trace with times. Raises `UserError` if the file cannot be read.
    """
    try:
        if path.stat().st_size < FROM_BYTES:
            return cut(read(), window)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        unreadable(path, error)
    place = folder() / f"{digest}-{how}-{VERSION}.parquet"
    try:
        return _load(place, window)
    except (OSError, ValueError, KeyError, pa.ArrowException):
        trace = read()
        _store(trace, place)
        return cut(trace, window)


def cut(trace: Trace, window: tuple[float, float] | None) -> Trace:
    """Return the part of a trace that arrives in a window; the whole one if it has no times."""
    if window is None or not trace.timed:
        return trace
    low, high = (int(i) for i in np.searchsorted(trace.arrivals, window))
    labels = None if trace.labels is None else trace.labels[low:high]
    columns = (trace.arrivals[low:high], trace.inputs[low:high], trace.outputs[low:high])
    total, end = len(trace), float(trace.arrivals[-1])
    return Trace(*columns, labels, trace.skipped, low, total, end)


def _store(trace: Trace, place: Path) -> None:
    table = pa.table(
        {
            "arrival_s": trace.arrivals,
            "input_tokens": trace.inputs.astype(np.int32),
            "output_tokens": trace.outputs.astype(np.int32),
        }
    )
    if trace.labels is not None:
        table = table.append_column("label", pa.array(trace.labels))
    table = table.replace_schema_metadata({"skipped": str(trace.skipped)})
    try:
        with atomic(place) as temporary:
            pq.write_table(table, temporary, row_group_size=_ROWS_PER_GROUP, compression="zstd")
    except UserError:
        return


def _load(place: Path, window: tuple[float, float] | None) -> Trace:
    file = pq.ParquetFile(place)
    skipped = int(file.schema_arrow.metadata[b"skipped"])
    arrivals = file.read(["arrival_s"]).column(0).to_numpy()
    low, high = 0, len(arrivals)
    if window is not None and not np.isnan(arrivals[0]):
        low, high = (int(i) for i in np.searchsorted(arrivals, window))
    groups = range(low // _ROWS_PER_GROUP, -(-high // _ROWS_PER_GROUP))
    columns = [name for name in file.schema_arrow.names if name != "arrival_s"]
    table = file.read_row_groups([*groups], columns).slice(low % _ROWS_PER_GROUP, high - low)
    labels = table.column("label").to_pandas() if "label" in columns else None
    return Trace(
        arrivals[low:high],
        table.column("input_tokens").to_numpy().astype(np.int64),
        table.column("output_tokens").to_numpy().astype(np.int64),
        None if labels is None else pd.Categorical(labels),
        skipped,
        low,
        len(arrivals),
        float(arrivals[-1]),
    )
