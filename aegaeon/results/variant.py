"""The settings that tell a run from the experiment's own runs, written as overrides."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pandas as pd

from aegaeon.errors import UserError
from aegaeon.results.config_hash import Json, canonical, counted, jsonable, leaves, point_hash
from aegaeon.results.inputs import input_files
from aegaeon.results.schema import ROWS

# Swept keys with a column of their own; the column tells the runs of an experiment apart.
OWN_COLUMN = frozenset(
    {
        *("models.count", "workload.rate_rps", "workload.duration_s"),
        *("workload.input_scale", "workload.output_scale", "backend.misprediction"),
        *("slo.scale", "slo.ttft_s", "slo.tbt_s"),
    }
)
_PLAIN = re.compile(r"[A-Za-z_][\w./+-]*")
_KEYWORDS = frozenset({"null", "true", "false", "inf", "nan"})


def differences(
    config: Mapping[str, Any], base: Mapping[str, Any], swept: Collection[str] = ()
) -> list[str]:
    """Return an override per counted key of `config` that differs from `base`, sorted by key.

    Both are resolved configurations of one run. The seed is left out, and so are the keys in
    `swept` that have a column of their own. `+` marks a key that `base` lacks, `~` a key that
    `config` lacks. A file is written by its name alone, as its folder is no setting.
    """
    ours, theirs = _flat(config), _flat(base)
    idle = {"seed"} | (OWN_COLUMN & set(swept))
    found = []
    for key in sorted({*ours, *theirs} - idle):
        if key not in ours:
            found.append(f"~{key}")
        elif key not in theirs:
            found.append(f"+{key}={_written(ours[key])}")
        elif repr(ours[key]) != repr(theirs[key]):
            found.append(f"{key}={_written(ours[key])}")
    return found


def curve_hash(config: Mapping[str, Any], inputs: Mapping[str, str] | None = None) -> str:
    """Return the hash of what the points of one curve share: all but the seed and `OWN_COLUMN`."""
    parts = {key: dict(v) if isinstance(v, Mapping) else v for key, v in config.items()}
    for group, _, key in (name.partition(".") for name in OWN_COLUMN):
        if isinstance(part := parts.get(group), dict):
            part.pop(key, None)
    return point_hash(parts, inputs)


def check_curves(table: pd.DataFrame, name: str) -> None:
    """Refuse two configurations under one `system`, at whatever loads.

    Rows that are older than the column `curve` are left out. Raises `UserError`.
    """
    found = table.groupby("system")["curve"].nunique()
    for system in found.index[found > 1]:
        raise UserError(
            f"stored table {name}: the rows of {system} are of two configurations, although their "
            "overrides are the same: a file of conf/, a profile or a trace has changed between the "
            "runs. Delete the run directories of one of them, and export with --replace"
        )


def written(overrides: Iterable[str]) -> str:
    """Return overrides as one text, quoted for a command line."""
    return shlex.join(overrides)


def own(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of the stored table `name` with its experiment's own settings.

    Raises `UserError` if there are none, or if two configurations are under one name and load.
    """
    rows = table[table["overrides"] == ""]
    if rows.empty:
        other = sorted(set(table["overrides"]))
        raise UserError(
            f"stored table {name}: all its rows differ from the experiment's own settings, by "
            f"{' or by '.join(other[:3])}; run `aegaeon run experiment={name}` and export again"
        )
    keys = [key for key in ROWS.of_role("setting") if key != "seed"]
    check_points(rows, keys, name)
    return rows


def check_points(table: pd.DataFrame, keys: list[str], name: str) -> None:
    """Refuse two configurations among rows that are equal in the columns `keys`.

    Such rows would be averaged as if they were seeds. Raises `UserError` with the columns that
    differ.
    """
    points = table[[*keys, "point"]].drop_duplicates()
    twice = points[points.duplicated(keys)]
    if twice.empty:
        return
    where = twice.iloc[0][keys].to_dict()
    rows = table[(table[keys] == pd.Series(where)).all(axis=1)]
    settings = [key for key in ROWS.of_role("setting") if key not in {*keys, "seed"}]
    differing = [key for key in settings if rows[key].nunique() > 1]
    text = ", ".join(f"{key} {rows[key].unique().tolist()}" for key in differing)
    text = text or "a file of conf/, a profile or a trace that has changed between the runs"
    at = ", ".join(f"{key}={value}" for key, value in where.items() if value != "")
    raise UserError(
        f"stored table {name}: two configurations at {at} differ in "
        f"{text}; they are not seeds of one point. Delete the run directories of one of them, and "
        "export with --replace"
    )


def _flat(config: Mapping[str, Any]) -> dict[str, Json]:
    flat = {".".join(path): value for path, value in leaves(canonical(jsonable(counted(config))))}
    return flat | {key: path.name for key, path in input_files(config).items()}


def _written(value: Json) -> str:
    """Return a value in the grammar of Hydra's overrides."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_written(item)}' for key, item in value.items())}}}"
    if isinstance(value, str) and (not _PLAIN.fullmatch(value) or value.lower() in _KEYWORDS):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return str(value)
