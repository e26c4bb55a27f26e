"""Stored tables: the column `config_hash` of the rows and of the detail tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from aegaeon.errors import UserError
from aegaeon.results.config_hash import config_hash
from aegaeon.results.details import details_path, kept, load_details, write_details
from aegaeon.results.inputs import input_digests
from aegaeon.results.parquet import write_table
from aegaeon.results.rehash.runs import new_names
from aegaeon.results.rehash.version1 import old_hash
from aegaeon.results.schema import DETAILS, ROWS
from aegaeon.results.store import load_stored, stored_path

Points: TypeAlias = Callable[[str], Iterable[Mapping[str, Any]]]


def translate_stored(experiment: str, runs_root: Path, stored_dir: Path, points: Points) -> bool:
    """Translate all stored tables of `experiment`; False if all are translated already.

    `points` gives the settings of every run of an experiment. Raises `UserError`, and writes
    nothing, if a hash belongs to no run directory and to no point.
    """
    path = stored_path(experiment, stored_dir)
    rows = load_stored(experiment, stored_dir)
    hashes = set(rows["config_hash"])
    names = _names(experiment, hashes, runs_root, points, path)
    if len({names[key] for key in hashes}) < len(hashes):
        raise UserError(f"{path}: two rows are one run in version 2; run and export both again.")
    details = [
        (table, _renamed(load_details(table, experiment, stored_dir), names, path))
        for table in DETAILS
        if kept(table, experiment, stored_dir)
    ]
    changed = False
    for table, lines in details:
        if lines is not None:
            write_details(lines, table, details_path(table, experiment, stored_dir))
            changed = True
    renamed = _renamed(rows, names, path)
    if renamed is not None:
        write_table(ROWS.arrow(renamed, path), path)
    return changed or renamed is not None


def _names(
    experiment: str, hashes: set[str], runs_root: Path, points: Points, path: Path
) -> dict[str, str]:
    """Return old hash -> new hash and new hash -> new hash, for all of `hashes`.

    Raises `UserError` if a hash belongs to no run directory and to no point.
    """
    names = new_names(runs_root / experiment)
    if not hashes <= {*names, *names.values()}:
        try:
            for point in points(experiment):
                names[old_hash(point)] = config_hash(point, input_digests(point))
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
