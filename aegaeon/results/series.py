"""Time series beside the stored rows: one table per experiment that has any (figure 4)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from aegaeon.errors import UserError
from aegaeon.results.files import write_table
from aegaeon.results.record import run_directory
from aegaeon.results.store import records

SERIES = "series"


def series_path(experiment: str, stored_dir: Path) -> Path:
    """Return where the stored series of `experiment` lies."""
    return stored_dir / SERIES / f"{experiment}.parquet"


def export_series(runs_root: Path, experiment: str, stored_dir: Path) -> Path | None:
    """Write the series of all finished runs, with their seeds; None if the runs have none."""
    frames = []
    for facts in records(runs_root, experiment):
        path = run_directory(runs_root, experiment, facts["config_hash"]) / f"{SERIES}.parquet"
        if facts["status"] == "finished" and path.exists():
            frames.append(pd.read_parquet(path).assign(seed=facts["row"]["seed"]))
    if not frames:
        return None
    table = pd.concat(frames).sort_values(["seed", "time_s"], ignore_index=True)
    path = series_path(experiment, stored_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(table, path)
    return path


def load_series(experiment: str, stored_dir: Path) -> pd.DataFrame:
    """Return the stored series of `experiment`; `UserError` when missing or damaged."""
    path = series_path(experiment, stored_dir)
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); make it with `aegaeon run -m "
            f"experiment={experiment}`, then `aegaeon results export {experiment}`"
        ) from error
