"""The stored table: one typed row a run, described here and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from aegaeon.errors import UserError

Role = Literal["identity", "setting", "measure", "provenance"]
SOURCES = ("simulated", "live")
_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its type, unit and meaning; `nullable` when a run may have nothing to measure."""

    name: str
    type: Literal["str", "int", "float"]
    unit: str
    role: Role
    meaning: str
    nullable: bool = False

    @property
    def field(self) -> pa.Field:
        """The Arrow field of this column."""
        return pa.field(self.name, _TYPES[self.type], nullable=self.nullable)


COLUMNS: tuple[Column, ...] = (
    Column("experiment", "str", "", "identity", "name of the experiment in conf/experiment"),
    Column("figure", "str", "", "identity", "figure or table of the paper that shows this row"),
    Column("system", "str", "", "setting", "serving system"),
    Column("source", "str", "", "setting", "`simulated` or `live`"),
    Column("hardware", "str", "", "setting", "name of the hardware in conf/hardware"),
    Column("gpus", "int", "devices", "setting", "GPUs that serve"),
    Column("num_models", "int", "models", "setting", "models on the market"),
    Column("rate_rps", "float", "requests/s", "setting", "mean arrival rate of one model"),
    Column("input_scale", "float", "factor", "setting", "multiplier of prompt lengths"),
    Column("output_scale", "float", "factor", "setting", "multiplier of output lengths"),
    Column("slo_scale", "float", "factor", "setting", "multiplier of both targets"),
    Column("ttft_slo_s", "float", "s", "setting", "target: arrival to first token"),
    Column("tbt_slo_s", "float", "s", "setting", "target: between two tokens"),
    Column("seed", "int", "", "setting", "seed of arrivals and lengths"),
    Column("duration_s", "float", "s", "setting", "length of the arrival window"),
    Column("requests", "int", "requests", "measure", "requests that arrived"),
    Column("finished", "int", "requests", "measure", "requests that got their last token"),
    Column("failed", "int", "requests", "measure", "requests refused, dropped or broken off"),
    Column("tokens", "int", "tokens", "measure", "tokens due, over all requests"),
    Column("slo_attainment", "float", "share", "measure", "tokens on time (section 2.1)", True),
    Column("artifact_qos", "float", "share", "measure", "the published plots' formula", True),
    Column(
        "joint_attainment",
        "float",
        "share",
        "measure",
        "requests that meet TTFT and mean TPOT",
        True,
    ),
    Column("goodput_rps", "float", "requests/s", "measure", "requests served within the SLO", True),
    Column("ttft_p50_s", "float", "s", "measure", "median time to first token", True),
    Column("ttft_p99_s", "float", "s", "measure", "99th percentile of it", True),
    Column("tbt_p50_s", "float", "s", "measure", "median time between tokens", True),
    Column("tbt_p99_s", "float", "s", "measure", "99th percentile of it", True),
    Column("switches", "int", "switches", "measure", "changes of model, all instances"),
    Column("switch_p50_s", "float", "s", "measure", "median duration of a switch", True),
    Column("kv_move_p50_s", "float", "s", "measure", "median KV wait of a request", True),
    Column("mean_active_models", "float", "models", "measure", "models with work, over time", True),
    Column("wall_s", "float", "s", "provenance", "what the run took on the machine that ran it"),
    Column("machine", "str", "", "provenance", "machine that ran it: processor, cores, GPUs"),
    Column("config_hash", "str", "", "provenance", "key of the run: hash of its configuration"),
    Column("git_sha", "str", "", "provenance", "commit that ran it; `-dirty` if changed since"),
)
BY_NAME: Mapping[str, Column] = {column.name: column for column in COLUMNS}
NAMES: tuple[str, ...] = tuple(BY_NAME)
SCHEMA: pa.Schema = pa.schema([column.field for column in COLUMNS])
VOLATILE: tuple[str, ...] = ("wall_s", "machine", "git_sha")
SORT_KEYS: tuple[str, ...] = (
    *("system", "num_models", "rate_rps", "input_scale", "output_scale", "slo_scale"),
    *("seed", "config_hash"),
)


def of_role(*roles: Role) -> tuple[str, ...]:
    """Return the names of the columns with one of `roles`, in schema order."""
    return tuple(column.name for column in COLUMNS if column.role in roles)


def validate_row(row: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """Return one row as plain Python values in schema order, NaN as None; raise `UserError`."""
    _check_names(row, where)
    clean = {column.name: _plain(row[column.name], column, where) for column in COLUMNS}
    _check_values(pa.Table.from_pylist([clean], schema=SCHEMA), where)
    return clean


def validate_table(df: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return `df` with the schema's types, column order and row order; raise `UserError`."""
    frame: pd.DataFrame = arrow_table(df, path).to_pandas()
    return frame


def arrow_table(df: pd.DataFrame, path: Path) -> pa.Table:
    """Return `df` as a checked Arrow table of `SCHEMA`, sorted by `SORT_KEYS`; or `UserError`."""
    _check_names(df.columns, path)
    columns = [_convert(df[column.name], column, path) for column in COLUMNS]
    loose = pa.schema([field.with_nullable(True) for field in SCHEMA])
    table = pa.Table.from_arrays(columns, schema=loose)
    _check_values(table, path)
    hashes = table.column("config_hash")
    if len(hashes.unique()) < len(hashes):
        raise _refusal(path, "config_hash", "two rows with the same key", "one row a run")
    return table.sort_by([(key, "ascending") for key in SORT_KEYS]).cast(SCHEMA)


def _check_names(names: Iterable[str], where: Path) -> None:
    given = set(names)
    for name in NAMES:
        if name not in given:
            raise _refusal(where, name, "missing", "every column of aegaeon/results/schema.py")
    if extra := sorted(given - set(NAMES)):
        raise _refusal(where, extra[0], "unknown", "only columns of aegaeon/results/schema.py")


def _plain(value: object, column: Column, where: Path) -> str | float | None:
    """Unwrap a numpy scalar and refuse a value of another type; an int may stand for a float."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if column.type == "float" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if column.type == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if column.type == "str" and isinstance(value, str):
        return value
    raise _refusal(where, column.name, f"{value!r} in a row", f"type {column.type}")


def _convert(series: pd.Series[Any], column: Column, path: Path) -> pa.Array:
    textual = not pd.api.types.is_numeric_dtype(series) or pd.api.types.is_bool_dtype(series)
    if series.notna().any() and textual != (column.type == "str"):
        raise _refusal(path, column.name, f"of type {series.dtype}", f"type {column.type}")
    try:
        return pa.Array.from_pandas(series, type=_TYPES[column.type])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise _refusal(path, column.name, str(error), f"type {column.type}") from error


def _check_values(table: pa.Table, where: Path) -> None:
    for column in COLUMNS:
        values = table.column(column.name)
        if values.null_count and not column.nullable:
            raise _refusal(where, column.name, "empty in some row", "a value in each row")
        if column.type == "str" or values.null_count == len(values):
            continue
        bounds = pc.min_max(values).as_py()
        high = 1.0 if column.unit == "share" else math.inf
        if bounds["min"] < 0 or bounds["max"] > high or bounds["max"] == math.inf:
            found = f"between {bounds['min']} and {bounds['max']}"
            wanted = "a share from 0 to 1" if high == 1.0 else "a finite number >= 0"
            raise _refusal(where, column.name, found, wanted)
    _check_scored(table, where)
    if strange := set(table.column("source").to_pylist()) - set(SOURCES):
        raise _refusal(where, "source", repr(strange.pop()), f"one of {', '.join(SOURCES)}")


def _check_scored(table: pa.Table, where: Path) -> None:
    """Refuse a row that had tokens to serve and no attainment; figure 4 counts models only."""
    served = pc.greater(table.column("tokens"), 0)
    for name in ("slo_attainment", "joint_attainment"):
        if pc.any(pc.and_(served, pc.is_null(table.column(name)))).as_py():
            raise _refusal(where, name, "empty in some row with tokens", "a value in each of them")


def _refusal(where: Path, column: str, found: str, expected: str) -> UserError:
    return UserError(
        f"{where}: column '{column}' is {found}; expected {expected}. "
        "Write result tables with `aegaeon results export`, never by hand."
    )
