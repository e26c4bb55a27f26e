"""Text cells of trace files, and the checks that turn them into numbers.

Cells are a data frame of strings indexed by line number, so that one set of checks serves every
format and each complaint names the line.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aegaeon.errors import UserError

MAX_TOKENS = 2**31 - 1


def read_csv_cells(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return the named columns of a CSV file; `UserError` if unreadable or one is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            cells = pd.read_csv(
                path, dtype=str, keep_default_na=False, skip_blank_lines=False, index_col=False
            )
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path}: is empty; expected a header and one request a line") from error
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        unreadable(path, error)
    for column in columns:
        if column not in cells.columns:
            found = ", ".join(map(str, cells.columns))
            raise UserError(
                f"{path}, line 1: no column {column!r}; expected {', '.join(columns)}, got {found}"
            )
    cells.index = pd.RangeIndex(2, len(cells) + 2)
    return cells.loc[(cells != "").any(axis=1), list(columns)]


def read_jsonl_cells(path: Path, keys: Sequence[str]) -> pd.DataFrame:
    """Return the named keys of one JSON object a line; `UserError` names a bad line."""
    rows: dict[int, list[str]] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    rows[number] = _json_cells(path, number, line, keys)
    except (OSError, UnicodeDecodeError) as error:
        unreadable(path, error)
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(keys), dtype=str)


def _json_cells(path: Path, number: int, line: str, keys: Sequence[str]) -> list[str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{path}, line {number}: not valid JSON ({error}); repair it") from error
    missing = [key for key in keys if not isinstance(row, dict) or key not in row]
    if missing:
        raise UserError(f"{path}, line {number}: expected an object with key {missing[0]!r}")
    return [str(row[key]) for key in keys]


def tokens(path: Path, cells: pd.DataFrame, column: str, minimum: int = 1) -> NDArray[np.int64]:
    """Return a column of whole token counts, shape (n,); `UserError` names the first bad line."""
    values = pd.to_numeric(cells[column], errors="coerce").to_numpy(dtype=np.float64)
    good = (values >= minimum) & (values <= MAX_TOKENS) & (values == np.floor(values))
    reject(path, cells[column], ~good, f"a whole number of tokens >= {minimum}")
    return values.astype(np.int64)


def seconds(path: Path, cells: pd.DataFrame, column: str) -> NDArray[np.float64]:
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


def unreadable(path: Path, error: Exception) -> NoReturn:
    """Raise the `UserError` for a file that cannot be opened, decoded or split into cells."""
    reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
    raise UserError(f"{path}: cannot be read ({reason}); check the path and format") from error
