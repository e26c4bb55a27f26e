"""The `aegaeon` command: one tree of commands that holds every entry point of the project."""

from __future__ import annotations

import sys

import click

from aegaeon import __version__
from aegaeon.cli.bench import bench
from aegaeon.cli.figures import claims, figures
from aegaeon.cli.machine import cluster, doctor
from aegaeon.cli.process import prepare
from aegaeon.cli.profile import profile
from aegaeon.cli.results import mlflow, results
from aegaeon.cli.run import reproduce, run, validate
from aegaeon.cli.tree import SETTINGS, Tree, examples, report
from aegaeon.cli.workload import workload
from aegaeon.errors import UserError
from aegaeon.signals import stoppable

_COMMANDS = (
    *(run, figures, claims, reproduce, results, mlflow),
    *(profile, bench, workload, validate, cluster, doctor),
)


@click.group(
    cls=Tree,
    context_settings=SETTINGS,
    epilog=examples(
        "aegaeon run experiment=kick        a sweep of seconds, to see that everything works",
        "aegaeon run experiment=fig11a      all points of Figure 11a; started again, it resumes",
        "aegaeon results export fig11a      store its rows in runs/tables/fig11a.parquet",
        "aegaeon figures --stored runs/tables fig11a   draw it from these rows",
        "aegaeon claims                     the paper's claims against the reference rows",
        "aegaeon reproduce                  every experiment, compared with the stored rows",
    ),
)
@click.version_option(__version__, message="%(version)s")
def cli() -> None:
    """Run experiments, draw figures, judge claims, browse results.

    `aegaeon run` simulates or measures, and writes a directory per run below runs/. `aegaeon
    results` stores the rows of finished runs in runs/tables/. Figures and claims are made from
    stored rows alone, by default from the reference in runs/stored/. `aegaeon COMMAND --help`
    explains each command.
    """


for _command in _COMMANDS:
    cli.add_command(_command)


def main() -> int:
    """Run the command line's command; SIGTERM and Ctrl-C unwind it (aegaeon/signals.py)."""
    try:
        prepare()
    except UserError as error:
        return report(str(error))
    try:
        return stoppable(lambda: int(cli.main(prog_name="aegaeon")))
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()
