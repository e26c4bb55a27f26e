"""A fast way through a well-formed CSV: ten times as fast as the careful one, or no answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
from numpy.typing import NDArray

from workloads.readers.files import FAULTS, opened

_BLOCK = 8 << 20


def fast_columns(
    path: Path, numbers: Sequence[str], label: str | None, date: str | None = None
) -> tuple[list[NDArray[Any]], pd.Categorical | None] | None:
    """Return columns of numbers, and one of text; None if the careful reader must look.

    The column `date` holds ISO dates, which come as whole nanoseconds since 1970. An empty cell,
    a cell of another type or a line of another length gives None.
    """
    for stamp in (pa.timestamp("ns"), pa.timestamp("ns", "UTC")) if date else (pa.float64(),):
        types = {name: stamp if name == date else pa.float64() for name in numbers}
        try:
            return _read(path, types, label)
        except FAULTS:
            continue
    return None


def _read(
    path: Path, types: dict[str, pa.DataType], label: str | None
) -> tuple[list[NDArray[Any]], pd.Categorical | None]:
    text = {label: pa.dictionary(pa.int32(), pa.string())} if label else {}
    convert = pc.ConvertOptions(
        column_types=types | text, include_columns=[*types, *text], null_values=[""]
    )
    parts: list[list[NDArray[Any]]] = []
    labels: list[pa.Array] = []
    with opened(path) as file:
        options = pc.ReadOptions(block_size=_BLOCK)
        for batch in pc.open_csv(file, read_options=options, convert_options=convert):
            if any(column.null_count for column in batch.columns):
                raise ValueError("empty cell")
            parts.append([_numbers(batch.column(name)) for name in types])
            labels += [batch.column(name) for name in text]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    joined = pa.chunked_array(labels).unify_dictionaries().combine_chunks() if labels else None
    return columns or [np.empty(0) for _ in types], None if joined is None else _labels(joined)


def _numbers(column: pa.Array) -> NDArray[Any]:
    whole = pa.types.is_timestamp(column.type)
    return np.asarray((column.cast(pa.int64()) if whole else column).to_numpy())


def _labels(joined: pa.DictionaryArray) -> pd.Categorical:
    codes = joined.indices.to_numpy()
    return pd.Categorical.from_codes(codes, categories=joined.dictionary.to_pylist())
