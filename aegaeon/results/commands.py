"""The commands `aegaeon results …`. The command line parses; these functions act and print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from aegaeon.errors import UserError
from aegaeon.results import details, store
from aegaeon.results.changes import print_changes
from aegaeon.results.diff import diff
from aegaeon.results.schema import ROWS, details_text


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
    changes, old and new. Raises `UserError`, with nothing written, if an experiment has no
    finished run or a damaged table.
    """
    console = console or Console()
    paths = []
    for experiment in experiments:
        # Every experiment is checked before the first table is written.
        store.fresh_rows(runs_root, experiment)
        if store.stored_path(experiment, stored_dir).exists() and not replace:
            store.load_stored(experiment, stored_dir)
    for experiment in experiments:
        _show_changes(experiment, runs_root, stored_dir, console)
        done = store.export(runs_root, experiment, stored_dir, replace=replace)
        before = f", {done.kept} of them kept from before" if done.kept else ""
        console.print(f"{done.path}: {done.rows} rows{before}", highlight=False)
        if done.old:
            console.print(
                f"{done.old} of them were made by other code than this checkout's; delete "
                f"{runs_root / experiment} and run again for rows of one code",
                highlight=False,
            )
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
