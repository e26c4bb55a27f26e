"""Stored tables: the column `config_hash` of rows and detail tables, and columns that rows lack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from aegaeon.errors import UserError
from aegaeon.results.details import details_path, kept, load_details, write_details
from aegaeon.results.parquet import write_table
from aegaeon.results.rehash.columns import Experiments, completed_table
from aegaeon.results.rehash.runs import new_names
from aegaeon.results.rehash.version1 import old_hash
from aegaeon.results.schema import DETAILS, ROWS
from aegaeon.results.store import raw_table, stored_path


def translate_stored(
    experiment: str, runs_root: Path, stored_dir: Path, experiments: Experiments
) -> bool:
    """Translate all stored tables of `experiment`; False if all are translated already.

    Raises `UserError`, and writes nothing, if a hash belongs to no run directory and to no point.
    """
    path = stored_path(experiment, stored_dir)
    rows = raw_table(experiment, stored_dir)
    hashes = set(rows["config_hash"])
    names = _names(experiment, hashes, runs_root, experiments, path)
    if len({names[key] for key in hashes}) < len(hashes):
        raise UserError(f"{path}: two rows are one run in version 2; run and export both again.")
    details = [
        (table, _renamed(load_details(table, experiment, stored_dir), names, path))
        for table in DETAILS
        if kept(table, experiment, stored_dir)
    ]
    renamed = _renamed(rows, names, path)
    full = completed_table(rows if renamed is None else renamed, experiment, experiments, path)
    changed = False
    for table, lines in details:
        if lines is not None:
            write_details(lines, table, details_path(table, experiment, stored_dir))
            changed = True
    if full is not rows:
        write_table(ROWS.arrow(full, path), path)
    return changed or full is not rows


def _names(
    experiment: str, hashes: set[str], runs_root: Path, experiments: Experiments, path: Path
) -> dict[str, str]:
    """Return old hash -> new hash and new hash -> new hash, for all of `hashes`.

    Raises `UserError` if a hash belongs to no run directory and to no point.
    """
    names = new_names(runs_root / experiment)
    if not hashes <= {*names, *names.values()}:
        try:
            for key, point in experiments.by_hash(experiment).items():
                names[old_hash(point)] = key
        except UserError as error:
            raise UserError(f"{path}: the settings of its rows are unknown: {error}") from error
    names |= {new: new for new in names.values()}
    if unknown := hashes - set(names):
        raise UserError(
            f"{path}: {len(unknown)} of {len(hashes)} rows are of no run directory and of no point "
            f"that experiment={experiment} has now; run and export these rows again."
        )
    return names


def _renamed(frame: pd.DataFrame, names: Mapping[str, str], path: Path) -> pd.DataFrame | None:
    """Return a table with the new hashes, or None if the table has the new hashes already.

    Raises `UserError` if a hash is not in `names`.
    """
    hashes = frame["config_hash"].map(dict(names))
    if hashes.isna().any():
        raise UserError(
            f"{path}: lacks the rows of stored detail lines; export the experiment again."
        )
    return None if hashes.equals(frame["config_hash"]) else frame.assign(config_hash=hashes)
