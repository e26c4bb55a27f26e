"""`aegaeon results` and `mlflow`: finished runs, stored tables, and the MLflow index of both."""

from __future__ import annotations

import math
from pathlib import Path

import click
from click.core import ParameterSource

from aegaeon.cli.options import own_option, runs_option, stored_option, tracking_option
from aegaeon.cli.tree import Tree, examples
from aegaeon.errors import UserError
from aegaeon.paths import STORED, is_reference

_experiments = click.argument("names", metavar="EXPERIMENT...", nargs=-1, required=True)


@click.group(
    cls=Tree,
    epilog=examples(
        "aegaeon results export fig11a    runs to a table of your own, runs/tables/fig11a.parquet",
        "aegaeon results diff fig11a      do fresh runs give the rows of the reference?",
    ),
)
def results() -> None:
    """Export, compare and browse results.

    A run leaves a directory, runs/<experiment>/<configuration hash>/. A table holds one row per
    finished run: yours are runs/tables/<experiment>.parquet, the reference is in runs/stored/.
    """


@results.command(
    epilog=examples(
        "aegaeon results export fig11a",
        "aegaeon results export --replace --stored runs/here live_fig14 live_fig07",
        "aegaeon results export --reference fig11a    change the rows that git tracks",
    )
)
@_experiments
@click.option("--replace", is_flag=True, help="Drop the stored rows that no finished run gives.")
@click.option("--reference", is_flag=True, help="Write to the reference, runs/stored.")
@runs_option
@own_option
@click.pass_context
def export(
    ctx: click.Context,
    names: tuple[str, ...],
    replace: bool,
    reference: bool,
    runs: Path,
    stored: Path,
) -> None:
    """Write the finished runs of experiments to tables of your own.

    Fresh rows replace stored rows of the same configuration; the other stored rows stay. `aegaeon
    figures` and `claims` read the reference unless `--stored` gives them your folder.
    """
    from aegaeon.results.advice import DRAWN, stored_words
    from aegaeon.results.commands import export_command

    named = ctx.get_parameter_source("stored") is not ParameterSource.DEFAULT
    place = _place(stored if named or not reference else None, reference)
    export_command(names, runs, place, replace=replace)
    if not reference:
        option = stored_words(place)
        drawn = f"`aegaeon figures {option}`, " if DRAWN.intersection(names) else ""
        click.echo(f"next: {drawn}`aegaeon claims {option}`")


def _place(stored: Path | None, reference: bool) -> Path:
    """Return the folder to write to; the reference is written only if it alone is asked for."""
    if stored is None:
        return STORED
    if reference:
        raise UserError(
            f"--reference: writes to runs/stored, but --stored names {stored}; give one of the two"
        )
    if is_reference(stored):
        raise UserError(
            f"--stored: {stored} is the reference; give another folder, or --reference in place of "
            "--stored to change the reference"
        )
    return stored


@results.command("import", epilog=examples("aegaeon results import", "aegaeon mlflow"))
@tracking_option
@stored_option
@runs_option
def import_(tracking: str, stored: Path, runs: Path) -> int:
    """Log every stored row to MLflow, to browse it there."""
    from aegaeon.results.mlflow.commands import import_command

    done = import_command(stored, tracking, runs)
    click.echo(f"{done.new} runs new in MLflow; `aegaeon mlflow` shows them")
    return int(bool(done.problems))


@results.command(
    epilog=examples("aegaeon results diff fig11a", "aegaeon results diff fig11a --rtol 1e-6")
)
@_experiments
@click.option("--rtol", type=click.FloatRange(0, 1), default=0.0, help="Relative tolerance.")
@runs_option
@stored_option
def diff(names: tuple[str, ...], rtol: float, runs: Path, stored: Path) -> int:
    """Compare finished runs with stored rows, cell by cell.

    The exit code is 0 if every stored row has a finished run that equals it.
    """
    from aegaeon.results.commands import diff_command

    if not math.isfinite(rtol):
        raise UserError(f"--rtol: must be a finite number, got {rtol}")
    return int(not diff_command(names, runs, stored, rtol=rtol))


@results.command(
    epilog=examples(
        "aegaeon results sync               every experiment with runs",
        "aegaeon results sync fig11a        one experiment",
        "aegaeon results sync --rebuild     a new database, as after MLflow's update",
    )
)
@click.argument("names", metavar="[EXPERIMENT]...", nargs=-1)
@click.option("--rebuild", is_flag=True, help="Set the local database aside and begin a new one.")
@tracking_option
@runs_option
def sync(names: tuple[str, ...], rebuild: bool, tracking: str, runs: Path) -> int:
    """Log the finished runs that MLflow lacks.

    `aegaeon run` does so at its end; repeat it here after MLflow failed or was deleted. A damaged
    record is named and left out; the exit code is then 1.
    """
    from aegaeon.results.mlflow.commands import sync_command

    done = sync_command(names, runs, tracking, rebuild=rebuild)
    click.echo(f"{done.new} runs new in MLflow")
    return int(bool(done.problems))


@results.command(epilog=examples("aegaeon results rehash"))
@runs_option
@stored_option
def rehash(runs: Path, stored: Path) -> int:
    """Bring runs and rows of older versions up to date.

    Names of runs become those of version 2 of the hash, and rows get the columns that they lack.
    Nothing is run and no number changes. The exit code is 2 if a run or row could not be
    translated.
    """
    from aegaeon.experiment.origin import described
    from aegaeon.experiment.points import points
    from aegaeon.results.rehash import Experiments, rehash_command

    return 0 if rehash_command(runs, stored, Experiments(points, described)) else 2


@results.command(epilog=examples("aegaeon results columns"))
def columns() -> None:
    """Explain the columns of the stored tables: type, unit, meaning."""
    from aegaeon.results.commands import columns_text

    click.echo(columns_text())


@click.command(
    epilog=examples(
        "aegaeon results import                        the stored rows, to have something to see",
        "aegaeon mlflow --open                         serve, and open the newest experiment",
        "aegaeon mlflow --tracking http://head:5000    links into a server that runs",
    )
)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, help="Port of the server.")
@click.option("--open", "browse", is_flag=True, help="Open the newest experiment in a browser.")
@tracking_option
@runs_option
def mlflow(port: int, browse: bool, tracking: str, runs: Path) -> int:
    """Serve MLflow's pages over the local runs until Ctrl-C.

    A link per experiment is printed; it opens a table of the runs with the right columns, and
    charts. Every `aegaeon run` logs its runs; `aegaeon results import` adds the stored ones.
    """
    from aegaeon.results.mlflow.pages import show

    return show(tracking, runs, port, browse=browse)
