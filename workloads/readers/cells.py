"""Text cells of trace files, and the checks that turn them into numbers.

Cells are a data frame of strings indexed by line number, so that one set of checks serves every
format and each complaint names the line.
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aegaeon.errors import UserError
from workloads.readers.files import FAULTS, opened, unreadable

CHUNK = 100_000
MAX_TOKENS = 2**31 - 1


def csv_cells(path: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield the named columns of a CSV file, some rows at a time, without its blank lines.

    Raises `UserError` if the file is unreadable or a column is missing.
    """
    try:
        with warnings.catch_warnings(), opened(path) as file:
            warnings.simplefilter("error", pd.errors.ParserWarning)
            parts = pd.read_csv(
                file,
                dtype=str,
                keep_default_na=False,
                skip_blank_lines=False,
                index_col=False,
                chunksize=CHUNK,
            )
            for cells in parts:
                _check_columns(path, cells, columns)
                cells.index += 2
                yield cells.loc[(cells != "").any(axis=1), list(columns)]
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path}: is empty; expected a header and one request a line") from error
    except (*FAULTS, pd.errors.ParserWarning) as error:
        unreadable(path, error)


def header(path: Path) -> list[str]:
    """Return the names in the first line of a CSV file; none if it has no text."""
    try:
        with opened(path) as file:
            line = file.readline(1 << 16)
        return next(csv.reader([line.decode()]), [])
    except (*FAULTS, csv.Error) as error:
        unreadable(path, error)


def _check_columns(path: Path, cells: pd.DataFrame, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in cells.columns:
            found = ", ".join(map(str, cells.columns))
            raise UserError(
                f"{path}, line 1: no column {column!r}; expected {', '.join(columns)}, got {found}"
            )


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each JSON line; `UserError` names a bad line."""
    try:
        with opened(path) as file:
            for number, line in enumerate(io.TextIOWrapper(file, encoding="utf-8"), start=1):
                if line.strip():
                    try:
                        yield number, json.loads(line)
                    except ValueError as error:
                        raise UserError(
                            f"{path}, line {number}: not valid JSON ({error}); repair it"
                        ) from error
    except FAULTS as error:
        unreadable(path, error)


def jsonl_cells(path: Path, keys: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield the named keys of one JSON object a line; `UserError` names a bad line."""
    lines = json_lines(path)
    while rows := {n: _json_cells(path, n, row, keys) for n, row in islice(lines, CHUNK)}:
        yield pd.DataFrame.from_dict(rows, orient="index", columns=list(keys), dtype=str)


def _json_cells(path: Path, number: int, row: object, keys: Sequence[str]) -> list[str]:
    missing = [key for key in keys if not isinstance(row, dict) or key not in row]
    if missing or not isinstance(row, dict):
        raise UserError(f"{path}, line {number}: expected an object with key {missing[0]!r}")
    return ["" if row[key] is None else str(row[key]) for key in keys]


def tokens(path: Path, cells: pd.DataFrame, column: str, minimum: int = 1) -> NDArray[np.int64]:
    """Return a column of whole token counts, shape (n,); `UserError` names the first bad line."""
    values = pd.to_numeric(cells[column], errors="coerce").to_numpy(dtype=np.float64)
    good = (values >= minimum) & (values <= MAX_TOKENS) & (values == np.floor(values))
    reject(path, cells[column], ~good, f"a whole number of tokens >= {minimum}")
    return values.astype(np.int64)


def numbers(path: Path, cells: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Return a column of times, shape (n,), finite and >= 0; `UserError` names a bad line."""
    values = pd.to_numeric(cells[column], errors="coerce").to_numpy(dtype=np.float64)
    reject(path, cells[column], ~(np.isfinite(values) & (values >= 0)), "a time >= 0")
    return values


def reject(path: Path, column: pd.Series[str], bad: NDArray[np.bool_], expected: str) -> None:
    """Raise `UserError` on the first cell of `column` that `bad` (shape (n,)) marks."""
    if bad.any():
        first = int(bad.argmax())
        raise UserError(
            f"{path}, line {column.index[first]}: {column.name}: "
            f"expected {expected}, got {column.iloc[first]!r}; correct or remove the line"
        )
