"""Detail tables: distributions that figures need and a run's row cannot hold.

`keep` in a run's configuration names the run's detail tables (`schema.DETAILS`). The lines of all
finished runs of an experiment are in `<stored>/<table>/<experiment>.parquet`. `config_hash` joins
a line to the stored row of its run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aegaeon.errors import UserError, reason
from aegaeon.paths import TABLES
from aegaeon.results.advice import remake
from aegaeon.results.once import once
from aegaeon.results.parquet import write_table
from aegaeon.results.record import run_directory
from aegaeon.results.schema import DETAILS
from aegaeon.results.store import (
    NotStoredError,
    current_records,
    load_own,
    load_stored,
    reading_folder,
)


def details_path(table: str, experiment: str, stored_dir: Path) -> Path:
    """Return the path of a stored detail table."""
    return stored_dir / table / f"{experiment}.parquet"


def kept(table: str, experiment: str, stored_dir: Path) -> bool:
    """Return whether a detail table of `experiment` is stored."""
    return details_path(table, experiment, reading_folder(experiment, stored_dir)).exists()


def collect_details(table: str, runs_root: Path, experiment: str) -> pd.DataFrame | None:
    """Return the lines of every finished run that keeps `table`; None if no run does."""
    frames = []
    for facts in current_records(runs_root, experiment):
        if facts["status"] == "finished" and table in facts["config"].get("keep", ()):
            path = run_directory(runs_root, experiment, facts["config_hash"]) / f"{table}.parquet"
            tags = {"config_hash": facts["config_hash"], "seed": facts["row"]["seed"]}
            frames.append(_read(path, experiment, TABLES).assign(**tags))
    if not frames:
        return None
    return DETAILS[table].frame(pd.concat(frames), runs_root / experiment)


def export_details(
    runs_root: Path, experiment: str, stored_dir: Path, *, replace: bool = False
) -> list[Path]:
    """Write the detail tables that the finished runs keep; return the paths of the written files.

    Stored lines of runs that `runs_root` lacks are kept, unless `replace`. Raises `UserError` for
    a run's table that is missing, damaged or without a column.
    """
    written = []
    for table in DETAILS:
        fresh = collect_details(table, runs_root, experiment)
        if fresh is None:
            continue
        path = details_path(table, experiment, stored_dir)
        if path.exists() and not replace:
            stored = load_details(table, experiment, stored_dir)
            known = set(load_stored(experiment, stored_dir)["config_hash"])
            other = known - set(fresh["config_hash"])
            fresh = pd.concat([stored[stored["config_hash"].isin(other)], fresh])
        write_details(fresh, table, path)
        written.append(path)
    return written


def write_details(lines: pd.DataFrame, table: str, path: Path) -> None:
    """Write the lines of a detail table, typed and sorted; `UserError` if a column is missing."""
    write_table(DETAILS[table].arrow(lines, path), path)


def load_details(table: str, experiment: str, stored_dir: Path) -> pd.DataFrame:
    """Return the stored lines of `experiment`; `UserError` when missing or damaged."""
    path = details_path(table, experiment, reading_folder(experiment, stored_dir))
    return once(path, lambda: DETAILS[table].frame(_read(path, experiment, stored_dir), path))


def with_rows(
    table: str, experiment: str, stored_dir: Path, columns: Sequence[str]
) -> pd.DataFrame:
    """Return the stored lines of the experiment's own runs, with `columns` of the run's stored row.

    Lines of runs with overrides are left out. Raises `UserError` if the rows or the detail table
    are missing or damaged, or if all runs have overrides.
    """
    rows = load_own(experiment, stored_dir)[["config_hash", *columns]]
    return load_details(table, experiment, stored_dir).merge(rows, on="config_hash")


def diff_details(
    runs_root: Path, experiment: str, stored_dir: Path, rtol: float = 0.0
) -> list[str]:
    """Return a sentence per stored simulated run and detail table with differing lines.

    Runs that were not run again are left out. Live runs are left out too: every live run measures
    its lines again. `rtol` is the relative difference up to which two floats agree; 0 asks for
    the same bits.
    """
    rows = load_stored(experiment, stored_dir)
    simulated = set(rows.loc[rows["source"] == "simulated", "config_hash"])
    found = []
    for table in DETAILS:
        fresh = collect_details(table, runs_root, experiment)
        if fresh is None or not kept(table, experiment, stored_dir):
            continue
        stored = dict(list(load_details(table, experiment, stored_dir).groupby("config_hash")))
        for key, lines in fresh.groupby("config_hash"):
            if key in simulated and (why := _difference(table, lines, stored.get(str(key)), rtol)):
                found.append(f"{key} {table}: {why}")
    return found


def _difference(table: str, fresh: pd.DataFrame, stored: pd.DataFrame | None, rtol: float) -> str:
    if stored is None:
        return "not stored"
    if len(fresh) != len(stored):
        return f"{len(fresh)} lines now, {len(stored)} stored"
    for column in DETAILS[table].columns:
        a, b = fresh[column.name].to_numpy(), stored[column.name].to_numpy()
        if differing := int(column.unequal(a, b, rtol).sum()):
            return f"{differing} of {len(fresh)} values of {column.name} differ"
    return ""


def _read(path: Path, experiment: str, stored_dir: Path) -> pd.DataFrame:
    try:
        return _frame(pq.read_table(path))
    except (OSError, pa.ArrowException) as error:
        kind = NotStoredError if isinstance(error, FileNotFoundError) else UserError
        raise kind(
            f"{path}: cannot be read ({reason(error)}); write the table by "
            f"{remake(experiment, stored_dir)}"
        ) from error


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame
