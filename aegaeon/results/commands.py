"""What `aegaeon results …` does; the command line parses, these functions act and print."""

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
    """Write the stored tables of each experiment, details too, and return their paths.

    Prints the measures of stored rows that change, old and new.
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
    """Print how fresh runs compare with the stored rows; True if every stored row was met."""
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
    """Log to MLflow the ended runs of `experiment` that it lacks; return how many were new.

    Called at the end of every sweep with its `sweep_id`, so that runs whose process died are
    logged as failed; may be called again at any time.
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
    """Replay every stored table into MLflow, to browse there; return how many runs were new."""
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
        # Whether a table that is missing or damaged may be written is for `export` to say.
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
