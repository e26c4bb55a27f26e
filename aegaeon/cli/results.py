"""`aegaeon results` and `mlflow`: finished runs, stored tables, and the MLflow index of both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from aegaeon.cli.options import path_option, runs_option, stored_option, tracking_option
from aegaeon.cli.tree import Tree, examples
from aegaeon.errors import UserError
from aegaeon.paths import RUNS, STORED

_experiments = click.argument("names", metavar="EXPERIMENT...", nargs=-1, required=True)


@click.group(
    cls=Tree,
    epilog=examples(
        "aegaeon results export fig11a    runs to a stored table, for figures and claims",
        "aegaeon results diff fig11a      do fresh runs give the stored rows?",
    ),
)
def results() -> None:
    """Export, compare and browse results.

    A run leaves a directory, runs/<experiment>/<configuration hash>/. A stored table,
    runs/stored/<experiment>.parquet, holds one row per finished run.
    """


@results.command(
    epilog=examples(
        "aegaeon results export fig11a",
        "aegaeon results export --replace --stored runs/here live_fig14 live_fig07",
    )
)
@_experiments
@click.option("--replace", is_flag=True, help="Drop the stored rows that no finished run gives.")
@runs_option
@path_option("--stored", default=STORED, text="Folder of the stored tables.")
def export(names: tuple[str, ...], replace: bool, runs: Path, stored: Path) -> None:
    """Write the finished runs of experiments to stored tables.

    Fresh rows replace stored rows of the same configuration; the other stored rows stay.
    """
    from aegaeon.results.commands import export_command

    export_command(names, runs, stored, replace=replace)


@results.command("import", epilog=examples("aegaeon results import", "aegaeon mlflow"))
@tracking_option
@stored_option
@runs_option
def import_(tracking: str, stored: Path, runs: Path) -> None:
    """Log every stored row to MLflow, to browse it there."""
    from aegaeon.results.commands import import_command

    count = import_command(stored, tracking, runs)
    click.echo(f"{count} runs new in MLflow; `aegaeon mlflow` shows them")


@results.command(
    epilog=examples("aegaeon results diff fig11a", "aegaeon results diff fig11a --rtol 1e-6")
)
@_experiments
@click.option("--rtol", type=click.FloatRange(min=0), default=0.0, help="Relative tolerance.")
@runs_option
@stored_option
def diff(names: tuple[str, ...], rtol: float, runs: Path, stored: Path) -> int:
    """Compare finished runs with stored rows, cell by cell.

    The exit code is 0 if every stored row has a finished run that equals it.
    """
    from aegaeon.results.commands import diff_command

    return int(not diff_command(names, runs, stored, rtol=rtol))


@results.command(epilog=examples("aegaeon results sync fig11a"))
@_experiments
@tracking_option
@runs_option
def sync(names: tuple[str, ...], tracking: str, runs: Path) -> None:
    """Log the finished runs that MLflow lacks.

    `aegaeon run` does so at its end; repeat it here after MLflow failed or was deleted.
    """
    from aegaeon.results.commands import sync_command

    count = sum(sync_command(name, runs, tracking) for name in names)
    click.echo(f"{count} runs new in MLflow")


@results.command(epilog=examples("aegaeon results rehash"))
@runs_option
@stored_option
def rehash(runs: Path, stored: Path) -> int:
    """Translate runs and rows from version 1 of the hash.

    The configuration hash names runs and rows. Nothing is run and no number changes. The exit code
    is 2 if a run or row could not be translated.
    """
    from aegaeon.experiment.points import points
    from aegaeon.results.rehash import rehash_command

    return 0 if rehash_command(runs, stored, points) else 2


@results.command(epilog=examples("aegaeon results columns"))
def columns() -> None:
    """Explain the columns of the stored tables: type, unit, meaning."""
    from aegaeon.results.commands import columns_text

    click.echo(columns_text())


@click.command(epilog=examples("aegaeon results import", "aegaeon mlflow --port 5001"))
@click.option("--port", type=click.IntRange(1, 65535), default=5000, help="Port of the server.")
def mlflow(port: int) -> int:
    """Serve MLflow's pages over the local runs until Ctrl-C.

    Every `aegaeon run` logs its runs there; `aegaeon results import` adds the stored ones.
    """
    database = RUNS / "mlflow.db"
    if not database.exists():
        raise UserError(
            f"{database}: no runs yet; `aegaeon results import` loads the stored ones, "
            "`aegaeon run` makes new ones"
        )
    server = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    server += ["--backend-store-uri", f"sqlite:///{database}", "--port", str(port)]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    click.echo(f"MLflow at http://localhost:{port} (Ctrl-C ends it)")
    return subprocess.call(server, env=os.environ | quiet)
