"""The type of a stored table: columns with types, units and meanings, an order of lines, checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aegaeon.errors import UserError

Role = Literal["identity", "setting", "measure", "provenance"]
Check = Callable[[pa.Table, Path], None]
_TYPES = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
}
# The precision of 32-bit floats: a smaller tolerance would ask for the same bits.
_LEAST_RTOL_32 = 1e-6


@dataclass(frozen=True, slots=True)
class Column:
    """One column: type, unit, meaning and role. A `nullable` column may have empty cells.

    A `later` column is nullable and younger than some stored tables, which lack it.
    """

    name: str
    type: Literal["str", "int", "float", "float32", "bool"]
    unit: str
    meaning: str
    role: Role = "measure"
    nullable: bool = False
    later: bool = False

    def unequal(self, a: NDArray[Any], b: NDArray[Any], rtol: float) -> NDArray[np.bool_]:
        """Return a mask, True where two equally shaped arrays of this column differ.

        `rtol` is the relative difference up to which two floats agree; 0 asks for the same bits.
        """
        if self.type == "float":
            return np.asarray(~np.isclose(a, b, rtol=rtol, atol=0.0, equal_nan=True))
        if self.type == "float32":
            bound = max(rtol, _LEAST_RTOL_32) if rtol else 0.0
            return np.asarray(~np.isclose(a, b, rtol=bound, atol=bound, equal_nan=True))
        return np.asarray(a != b)


@dataclass(frozen=True)
class Table:
    """One kind of table.

    Attributes:
        name: name of the table, and of its folder or file.
        line: meaning of one line, in words.
        columns: the columns, in order.
        order: names of the columns by which lines are sorted.
        key: a column of distinct values, or None.
        exact: True: a frame must have exactly these columns and types, and values in range. False:
            further columns are dropped and values are converted.
        check: raises `UserError` for a fault that no single column shows.
    """

    name: str
    line: str
    columns: tuple[Column, ...]
    order: tuple[str, ...]
    key: str | None = None
    exact: bool = False
    check: Check | None = None

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        """The columns by name, in order."""
        return {column.name: column for column in self.columns}

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(self.by_name)

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the stored table."""
        nullable = [column.nullable or not self.exact for column in self.columns]
        return pa.schema(
            [
                pa.field(column.name, _TYPES[column.type], nullable=null)
                for column, null in zip(self.columns, nullable, strict=True)
            ]
        )

    def of_role(self, *roles: Role) -> tuple[str, ...]:
        """Return the names of the columns with one of `roles`, in order."""
        return tuple(column.name for column in self.columns if column.role in roles)

    def arrow(self, frame: pd.DataFrame, where: Path) -> pa.Table:
        """Return `frame` typed, checked and sorted, without its index.

        Raises `UserError` with `where` and the name of the faulty column.
        """
        self._check_names(frame.columns, where)
        frame = frame.reindex(columns=list(self.names))
        arrays = [self._array(frame[column.name], column, where) for column in self.columns]
        loose = pa.schema([field.with_nullable(True) for field in self.schema])
        table = pa.Table.from_arrays(arrays, schema=loose)
        if self.exact:
            self._check_values(table, where)
        if self.key is not None:
            keys = table.column(self.key)
            if len(keys.unique()) < len(keys):
                raise refusal(where, self.key, "two rows with the same key", "one row a run")
        return table.sort_by([(name, "ascending") for name in self.order]).cast(self.schema)

    def frame(self, frame: pd.DataFrame, where: Path) -> pd.DataFrame:
        """Return the table of `arrow` as a data frame; raise `UserError` as `arrow` does."""
        typed: pd.DataFrame = self.arrow(frame, where).to_pandas()
        return typed

    def row(self, row: Mapping[str, Any], where: Path) -> dict[str, Any]:
        """Return one line as plain Python values, in the order of the columns, NaN as None.

        Raises `UserError` with `where` and the name of the faulty column.
        """
        self._check_names(row, where)
        clean = {c.name: _plain(row.get(c.name), c, where) for c in self.columns}
        self._check_values(pa.Table.from_pylist([clean], schema=self.schema), where)
        return clean

    def markdown(self) -> str:
        """Return the columns as a Markdown table."""
        lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
        for c in self.columns:
            meaning = f"{c.meaning}; may be empty" if c.nullable else c.meaning
            lines.append(f"| `{c.name}` | {c.type} | {c.unit} | {meaning} |")
        return "\n".join(lines)

    def _check_names(self, names: Iterable[str], where: Path) -> None:
        given = set(names)
        if lacking := [c.name for c in self.columns if c.name not in given and not c.later]:
            raise refusal(where, lacking[0], "missing", f"every column of table {self.name}")
        if self.exact and (extra := sorted(given - set(self.names))):
            raise refusal(where, extra[0], "unknown", f"only columns of table {self.name}")

    def _array(self, values: pd.Series[Any], column: Column, where: Path) -> pa.Array:
        if self.exact:
            textual = not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(
                values
            )
            if values.notna().any() and textual != (column.type == "str"):
                raise refusal(where, column.name, f"of type {values.dtype}", f"type {column.type}")
        elif column.type == "str":
            values = values.astype(str)
        try:
            return pa.Array.from_pandas(values, type=_TYPES[column.type], safe=self.exact)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise refusal(where, column.name, str(error), f"type {column.type}") from error

    def _check_values(self, table: pa.Table, where: Path) -> None:
        for column in self.columns:
            values = table.column(column.name)
            if values.null_count and not column.nullable:
                raise refusal(where, column.name, "empty in some row", "a value in each row")
            if column.type != "str" and values.null_count < len(values):
                _check_range(values, column, where)
        if self.check is not None:
            self.check(table, where)


def _check_range(values: pa.ChunkedArray, column: Column, where: Path) -> None:
    bounds = pc.min_max(values).as_py()
    high = 1.0 if column.unit == "share" else math.inf
    if bounds["min"] < 0 or bounds["max"] > high or bounds["max"] == math.inf:
        found = f"between {bounds['min']} and {bounds['max']}"
        wanted = "a share from 0 to 1" if high == 1.0 else "a finite number >= 0"
        raise refusal(where, column.name, found, wanted)


def _plain(value: object, column: Column, where: Path) -> str | float | None:
    """Return a value as plain Python, NaN as None; an int may stand for a float.

    Raises `UserError` for a value of another type.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if column.type == "float" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if column.type == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if column.type == "str" and isinstance(value, str):
        return value
    raise refusal(where, column.name, f"{value!r} in a row", f"type {column.type}")


def refusal(where: Path, column: str, found: str, expected: str) -> UserError:
    """Return the error for a file's column: the name, the fault, and the expectation."""
    return UserError(
        f"{where}: column '{column}' is {found}; expected {expected}. "
        "Write result tables with `aegaeon results export`, never by hand."
    )
