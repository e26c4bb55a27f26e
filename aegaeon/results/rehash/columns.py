"""Columns that rows of an older version lack: filled from the settings of each row's run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from aegaeon.errors import UserError
from aegaeon.results.config_hash import config_hash
from aegaeon.results.inputs import input_digests
from aegaeon.results.schema import ROWS

Settings: TypeAlias = Mapping[str, Any]


class Experiments:
    """What an experiment's file says of its runs.

    `points` gives the settings of every run of an experiment, and `describe` the columns of a row
    that its settings alone give.
    """

    def __init__(
        self,
        points: Callable[[str], Iterable[Settings]],
        describe: Callable[[Settings], Mapping[str, object]],
    ) -> None:
        self.describe = describe
        self._points = points
        self._by_hash = cache(self._read)

    def by_hash(self, experiment: str) -> dict[str, Settings]:
        """Return the settings of every run by its hash; `UserError` if no file has them."""
        return self._by_hash(experiment)

    def _read(self, experiment: str) -> dict[str, Settings]:
        return {config_hash(p, input_digests(p)): p for p in self._points(experiment)}

    def completed(self, row: Mapping[str, Any], experiment: str, where: Path) -> dict[str, Any]:
        """Return a row with the columns that it lacks; measures that it lacks are empty.

        Raises `UserError` if the row is of no run that the experiment's file asks for.
        """
        lacking = [name for name in ROWS.names if name not in row]
        if not lacking:
            return dict(row)
        known: Mapping[str, object] = {}
        if not all(ROWS.by_name[name].nullable for name in lacking):
            known = self._described(row["config_hash"], experiment, where)
        return {**row, **{name: known.get(name) for name in lacking}}

    def _described(self, key: str, experiment: str, where: Path) -> Mapping[str, object]:
        try:
            points = self.by_hash(experiment)
        except UserError as error:
            raise UserError(f"{where}: the settings of its rows are unknown: {error}") from error
        if key not in points:
            raise UserError(
                f"{where}: row {key} names no settings, and is of no point that "
                f"experiment={experiment} has now; delete it and run it again."
            )
        return self.describe(points[key])


def completed_table(
    rows: pd.DataFrame, experiment: str, experiments: Experiments, path: Path
) -> pd.DataFrame:
    """Return a stored table with every column; the table itself if it lacks none."""
    if set(ROWS.names) <= set(rows):
        return rows
    plain = [{str(name): value for name, value in r.items()} for r in rows.to_dict("records")]
    records = [experiments.completed(row, experiment, path) for row in plain]
    added = pd.DataFrame(records)[[name for name in ROWS.names if name not in rows]]
    return pd.concat([rows, added.set_index(rows.index)], axis="columns")
