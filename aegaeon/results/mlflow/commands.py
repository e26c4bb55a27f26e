"""What fills MLflow: `aegaeon results sync` and `import`, and the end of each `aegaeon run`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from aegaeon.errors import UserError
from aegaeon.paths import FIGURES, STORED, folders_of, is_reference
from aegaeon.results import details, store
from aegaeon.results.mlflow.checks import SQLITE, command
from aegaeon.results.mlflow.entry import Entry
from aegaeon.results.mlflow.from_records import of_records
from aegaeon.results.mlflow.from_rows import of_rows
from aegaeon.results.mlflow.tracker import LogReport, Tracker, connect
from aegaeon.results.record import RUN_FILE, read_record
from aegaeon.results.schema import DETAILS, ROWS

Work = Mapping[str, Sequence[Entry]]


def sync_command(
    experiments: Sequence[str],
    runs_root: Path,
    tracking: str,
    *,
    sweep_id: str = "",
    rebuild: bool = False,
    console: Console | None = None,
) -> LogReport:
    """Log the ended runs of `experiments` (all of them if empty) that MLflow lacks.

    A record that is damaged is printed and left out. Every sweep calls this function at its end
    with its `sweep_id`: runs of the sweep that lost their process are then logged as failed. A
    repeated call is harmless at any time. `rebuild` sets a local database aside first.
    """
    console = console or Console(stderr=True)
    tracker = connect(tracking, runs_root)
    if tracker is None:
        return LogReport(0, ())
    if rebuild:
        _set_aside(tracker, console)
    tracker.check(command(tracker.uri, runs_root))
    work: dict[str, Sequence[Entry]] = {}
    problems: list[str] = []
    for name in experiments or with_runs(runs_root):
        records, unread = _readable(runs_root / name)
        work[name], unfit = of_records(records, runs_root, sweep_id)
        problems += [*unread, *unfit]
    done = _log({name: runs for name, runs in work.items() if runs}, tracker, console)
    return _named(LogReport(done.new, [*problems, *done.problems]), console)


def with_runs(runs_root: Path) -> list[str]:
    """Return the experiments that have a run in `runs_root`."""
    return sorted({path.parents[1].name for path in runs_root.glob(f"*/*/{RUN_FILE}")})


def import_command(
    stored_dir: Path, tracking: str, runs_root: Path, *, console: Console | None = None
) -> LogReport:
    """Log every row of every stored table that MLflow lacks as a run.

    The table, its detail tables and the figures of its name are artifacts of the sweep above the
    rows. Raises `UserError` if `stored_dir` has no table, or if `tracking` is `none`.
    """
    console = console or Console(stderr=True)
    folders = reversed(folders_of(stored_dir))
    tables = {path.name: path for folder in folders for path in folder.glob("*.parquet")}
    if not tables:
        raise UserError(
            f"{stored_dir}: no stored table to import; expected <experiment>.parquet files, "
            "as `aegaeon results export` writes them."
        )
    tracker = connect(tracking, runs_root)
    if tracker is None:
        raise UserError("tracking.uri: 'none' cannot take an import; give sqlite or a server.")
    place = () if is_reference(stored_dir) else ("--stored", str(stored_dir.absolute()))
    tracker.check(command(tracker.uri, runs_root, *place, verb="import"))
    work: dict[str, Sequence[Entry]] = {}
    for _, path in sorted(tables.items()):
        table = ROWS.arrow(store.load_stored(path.stem, stored_dir), path)
        kept = [name for name in DETAILS if details.kept(name, path.stem, stored_dir)]
        files = [(path, "tables")]
        files += [(details.details_path(n, path.stem, path.parent), f"tables/{n}") for n in kept]
        if stored_dir.resolve() == STORED:
            files += [(figure, "figures") for figure in _figures(path.stem)]
        work[path.stem] = of_rows(table.to_pylist(), path.stem, files, kept)
    return _named(_log(work, tracker, console), console)


def _figures(experiment: str) -> list[Path]:
    """Return the drawn figures of an experiment: those of its name, or whose name it begins with.

    Figure 11 shows the experiments fig11a, fig11b and fig11c.
    """
    drawn = sorted(FIGURES.glob("*.png")) + sorted(FIGURES.glob("*.pdf"))
    return [path for path in drawn if experiment.startswith(path.stem)]


def _readable(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the records below `folder`, and a sentence per record that cannot be read."""
    records, problems = [], []
    for path in sorted(folder.glob(f"*/{RUN_FILE}")):
        try:
            records.append(read_record(path))
        except UserError as error:
            problems.append(str(error))
    return records, problems


def _set_aside(tracker: Tracker, console: Console) -> None:
    """Rename a local database, so that a new one takes its place."""
    if not tracker.uri.startswith(SQLITE):
        raise UserError(
            "--rebuild: only a database of this machine can be rebuilt; in a server, delete the "
            "experiment on its page, or start the server with another store."
        )
    database = Path(tracker.uri.removeprefix(SQLITE))
    if database.is_file():
        old = database.with_suffix(f"{database.suffix}.old")
        os.replace(database, old)
        console.print(Text(f"{old}: the database as it was"), soft_wrap=True)


def _named(outcome: LogReport, console: Console) -> LogReport:
    for line in outcome.problems:
        console.print(Text(f"left out of MLflow: {line}", style="yellow"), soft_wrap=True)
    return outcome


def _log(work: Work, tracker: Tracker, console: Console) -> LogReport:
    new = 0
    problems: list[str] = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        for experiment, runs in work.items():
            task = bar.add_task(f"MLflow: {experiment}", total=len(runs))
            done = tracker.log(experiment, runs, partial(bar.advance, task))
            new += done.new
            problems += done.problems
    return LogReport(new, problems)
