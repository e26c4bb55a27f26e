"""Stored tables: written from run directories, read by figures, compared with fresh runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aegaeon.errors import UserError, reason
from aegaeon.paths import folder_with
from aegaeon.results.advice import remake
from aegaeon.results.code import changed_code
from aegaeon.results.config_hash import VERSION
from aegaeon.results.diff import changed_cells
from aegaeon.results.once import once
from aegaeon.results.parquet import write_table
from aegaeon.results.provenance import UNKNOWN
from aegaeon.results.record import RUN_FILE, read_record, run_directory
from aegaeon.results.schema import ROWS
from aegaeon.results.table import refusal
from aegaeon.results.variant import own


class NotStoredError(UserError):
    """A table is not stored; other tables may be."""


class Exported(NamedTuple):
    """A written table: its path and numbers of rows.

    Attributes:
        kept: rows from the table that was stored before.
        old: rows of runs that other code made than this program's code is now.
    """

    path: Path
    rows: int
    kept: int
    old: int


def finished(runs_root: Path, experiment: str, config_hash: str, keep: Sequence[str] = ()) -> bool:
    """Return whether this run finished and has all its tables: a sweep may then skip the run.

    `keep` names detail tables. A run that was done without `keep` lacks those tables, and must be
    run again.
    """
    directory = run_directory(runs_root, experiment, config_hash)
    if not (directory / RUN_FILE).exists():
        return False
    try:
        facts = read_record(directory / RUN_FILE)
    except UserError:
        return False
    tables = {*facts.get("tables", ()), *[f"{name}.parquet" for name in keep]}
    complete = all((directory / name).exists() for name in tables)
    return facts["status"] == "finished" and complete


def stored_row(runs_root: Path, experiment: str, config_hash: str) -> dict[str, Any]:
    """Return the row of a finished run; raises `UserError` for a damaged record."""
    row: dict[str, Any] = read_record(run_directory(runs_root, experiment, config_hash) / RUN_FILE)[
        "row"
    ]
    return row


def other_code(runs_root: Path, experiment: str, config_hash: str) -> list[str]:
    """Return the parts of this program that have changed since a run was made."""
    return changed_code(read_record(run_directory(runs_root, experiment, config_hash) / RUN_FILE))


def records(runs_root: Path, experiment: str) -> list[dict[str, Any]]:
    """Return the `run.json` of every run of `experiment`, in the order of directory names.

    Raises `UserError` for a damaged record.
    """
    paths = sorted((runs_root / experiment).glob(f"*/{RUN_FILE}"))
    return [read_record(path) for path in paths]


def current_records(runs_root: Path, experiment: str) -> list[dict[str, Any]]:
    """Return what `records` returns; `UserError` if a record has a hash of an older version."""
    found = records(runs_root, experiment)
    if any(facts["hash_version"] != VERSION for facts in found):
        raise UserError(
            f"{runs_root / experiment}: holds runs of an older version of the configuration hash; "
            "`aegaeon results rehash` translates the hashes, and runs nothing."
        )
    return found


def collect(runs_root: Path, experiment: str) -> pd.DataFrame:
    """Return the rows of all finished runs, typed and sorted; empty without finished runs."""
    rows = []
    for facts in current_records(runs_root, experiment):
        if facts["status"] == "finished":
            path = run_directory(runs_root, experiment, facts["config_hash"]) / RUN_FILE
            rows.append(ROWS.row(facts["row"], path))
    return ROWS.frame(pd.DataFrame(rows, columns=list(ROWS.names)), runs_root / experiment)


def merge(fresh: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of both tables; of two rows with one `config_hash`, the fresh one.

    If two such rows differ in volatile columns only (time, machine, commit), the stored row is
    kept: reproduced results then leave the stored file unchanged. A stored row without a machine or
    without a clean commit gives way to a fresh row that has both.
    """
    if fresh.empty or stored.empty:
        return stored if fresh.empty else fresh
    changed = changed_cells(fresh, stored)
    better = _vague(stored) - _vague(fresh)
    same = set(fresh["config_hash"]) & set(stored["config_hash"]) - set(changed) - better
    new = fresh[~fresh["config_hash"].isin(same)]
    kept = stored[~stored["config_hash"].isin(new["config_hash"])]
    return pd.concat([kept, new], ignore_index=True)


def _vague(rows: pd.DataFrame) -> set[str]:
    """Return the hashes of rows that do not name their machine or a clean commit."""
    vague = rows["machine"].eq(UNKNOWN) | rows["git_sha"].str.contains(f"{UNKNOWN}|-dirty")
    return set(rows.loc[vague, "config_hash"])


def stored_path(experiment: str, stored_dir: Path) -> Path:
    """Return the path of the stored table of `experiment`."""
    return stored_dir / f"{experiment}.parquet"


def reading_folder(experiment: str, stored_dir: Path) -> Path:
    """Return the folder that the tables of `experiment` are read from (`paths.folders_of`)."""
    return folder_with(f"{experiment}.parquet", stored_dir)


def fresh_rows(runs_root: Path, experiment: str) -> pd.DataFrame:
    """Return the rows of the finished runs; raises `UserError` if there are none."""
    fresh = collect(runs_root, experiment)
    if fresh.empty:
        raise UserError(
            f"{runs_root / experiment}: no finished run to export; "
            f"run `aegaeon run experiment={experiment}` first."
        )
    return fresh


def export(runs_root: Path, experiment: str, stored: Path, *, replace: bool = False) -> Exported:
    """Write the finished runs to `<stored>/<experiment>.parquet`.

    Stored rows that `runs_root` lacks are kept, unless `replace`. Raises `UserError` if no run has
    finished.
    """
    fresh = fresh_rows(runs_root, experiment)
    path = stored_path(experiment, stored)
    rows = fresh
    if path.exists() and not replace:
        rows = merge(fresh, load_stored(experiment, stored))
    write_table(ROWS.arrow(rows, path), path)
    ended = [facts for facts in records(runs_root, experiment) if facts["status"] == "finished"]
    old = sum(bool(changed_code(facts)) for facts in ended)
    return Exported(path, len(rows), len(rows) - len(fresh), old)


def load_stored(experiment: str, stored_dir: Path) -> pd.DataFrame:
    """Return the stored rows of `experiment`, checked; `UserError` when missing or damaged."""
    folder = reading_folder(experiment, stored_dir)
    return once(stored_path(experiment, folder), lambda: _checked(experiment, folder))


def _checked(experiment: str, stored_dir: Path) -> pd.DataFrame:
    rows, path = raw_table(experiment, stored_dir), stored_path(experiment, stored_dir)
    if "overrides" not in rows:
        raise UserError(
            f"{path}: its rows do not name their settings, as an older version wrote them; "
            f"`aegaeon results rehash --stored {stored_dir}` adds the columns, and runs nothing."
        )
    return ROWS.frame(rows, path)


def load_own(experiment: str, stored_dir: Path) -> pd.DataFrame:
    """Return the stored rows with the experiment's own settings, none of them a variant.

    Raises `UserError` as `load_stored` does, and as `variant.own` does.
    """
    return own(load_stored(experiment, stored_dir), experiment)


def raw_table(experiment: str, stored_dir: Path) -> pd.DataFrame:
    """Return the stored rows of `experiment` as any version wrote them.

    Raises `UserError` for a file that is missing or no table of rows.
    """
    path = stored_path(experiment, stored_dir)
    again = remake(experiment, stored_dir)
    try:
        rows: pd.DataFrame = pq.read_table(path).to_pandas()
    except FileNotFoundError as error:
        raise NotStoredError(f"{path}: no stored results; use {again}.") from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path}: not a parquet file ({reason(error)}); replace it: {again}."
        ) from error
    if "config_hash" not in rows:
        raise refusal(path, "config_hash", "missing", "every column of table rows")
    return rows
