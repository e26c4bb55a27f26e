"""The commands `aegaeon results …`. The command line parses; these functions act and print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from aegaeon.errors import UserError
from aegaeon.results import details, store
from aegaeon.results.changes import print_changes
from aegaeon.results.diff import diff
from aegaeon.results.mlflow import entries
from aegaeon.results.mlflow.tracker import Tracker, connect
from aegaeon.results.schema import DETAILS, ROWS, details_text


def export_command(
    experiments: Sequence[str],
    runs_root: Path,
    stored_dir: Path,
    *,
    replace: bool = False,
    console: Console | None = None,
) -> list[Path]:
    """Write the stored tables of each experiment, and return the paths of the written files.

    The detail tables of an experiment are written too. Prints each measure of a stored row that
    changes, old and new. Raises `UserError` if an experiment has no finished run.
    """
    console = console or Console()
    paths = []
    for experiment in experiments:
        _show_changes(experiment, runs_root, stored_dir, console)
        done = store.export(runs_root, experiment, stored_dir, replace=replace)
        before = f", {done.kept} of them kept from before" if done.kept else ""
        console.print(f"{done.path}: {done.rows} rows{before}", highlight=False)
        tables = details.export_details(runs_root, experiment, stored_dir, replace=replace)
        for path in tables:
            console.print(f"{path}: {path.stat().st_size / 1e3:.0f} kB", highlight=False)
        paths += [done.path, *tables]
    return paths


def diff_command(
    experiments: Sequence[str],
    runs_root: Path,
    stored_dir: Path,
    *,
    rtol: float = 0.0,
    console: Console | None = None,
) -> bool:
    """Print how fresh runs compare with the stored rows and detail tables.

    Returns True if every stored row was run again with the same result. `rtol` is the relative
    difference up to which two floats agree. Raises `UserError` if nothing is stored.
    """
    console = console or Console()
    ok = True
    for experiment in experiments:
        stored = store.load_stored(experiment, stored_dir)
        report = diff(store.collect(runs_root, experiment), stored, rtol)
        console.print(f"{experiment}: {report.summary()}", highlight=False)
        for line in report.details():
            console.print(f"  {line}", highlight=False)
        lines = details.diff_details(runs_root, experiment, stored_dir, rtol)
        for line in lines:
            console.print(f"  {line}", highlight=False)
        ok &= report.ok and not lines
    return ok


def sync_command(
    experiment: str,
    runs_root: Path,
    tracking: str,
    *,
    sweep_id: str = "",
    console: Console | None = None,
) -> int:
    """Log the ended runs of `experiment` that MLflow lacks; return the number of new runs.

    Every sweep calls this function at its end with its `sweep_id`: runs of the sweep that lost
    their process are then logged as failed. A repeated call is harmless at any time.
    """
    tracker = connect(tracking, runs_root)
    if tracker is None:
        return 0
    runs = entries.of_records(store.records(runs_root, experiment), runs_root, sweep_id)
    return _log({experiment: runs}, tracker, console)


def import_command(
    stored_dir: Path,
    tracking: str,
    runs_root: Path,
    *,
    console: Console | None = None,
) -> int:
    """Log every row of every stored table as an MLflow run; return the number of new runs.

    Raises `UserError` if `stored_dir` has no table, or if `tracking` is `none`.
    """
    tables = sorted(stored_dir.glob("*.parquet"))
    if not tables:
        raise UserError(
            f"{stored_dir}: no stored table to import; expected <experiment>.parquet files, "
            "as `aegaeon results export` writes them."
        )
    tracker = connect(tracking, runs_root)
    if tracker is None:
        raise UserError("tracking.uri: 'none' cannot take an import; give sqlite or a server.")
    work = {}
    for path in tables:
        table = ROWS.arrow(store.load_stored(path.stem, stored_dir), path)
        kept = [name for name in DETAILS if details.kept(name, path.stem, stored_dir)]
        work[path.stem] = entries.of_rows(table.to_pylist(), path.stem, kept)
    return _log(work, tracker, console)


def columns_text() -> str:
    """Return the columns of all stored tables as Markdown, for the docs and `results columns`."""
    return f"{ROWS.markdown()}\n\n{details_text()}"


def _show_changes(experiment: str, runs_root: Path, stored_dir: Path, console: Console) -> None:
    try:
        stored = store.load_stored(experiment, stored_dir)
    except UserError:
        # `export` decides what happens to a missing or damaged table.
        return
    print_changes(store.collect(runs_root, experiment), stored, console)


def _log(
    work: Mapping[str, Sequence[entries.Entry]], tracker: Tracker, console: Console | None
) -> int:
    console = console or Console(stderr=True)
    new = 0
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        for experiment, runs in work.items():
            task = bar.add_task(f"MLflow: {experiment}", total=len(runs))
            new += tracker.log(experiment, runs, partial(bar.advance, task))
    return new
