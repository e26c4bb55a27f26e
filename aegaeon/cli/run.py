"""`aegaeon run`, `reproduce` and `validate`: what carries experiments out."""

from __future__ import annotations

from pathlib import Path

import click

from aegaeon.cli.options import FILE, stored_option
from aegaeon.cli.tree import examples


def _completed(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return what an argument of `aegaeon run` can go on with."""
    from aegaeon.experiment.compose import completions

    before = list(ctx.params.get("arguments") or ())
    word, split = incomplete, False
    # bash takes `=` for a word of its own, and click drops that word where it is the last.
    if before[-1:] == ["="]:
        word, split = f"{''.join(before[-2:])}{incomplete}", True
    elif not incomplete and before and "=" not in before[-1] and not before[-1].startswith("-"):
        word, split = f"{before[-1]}=", True
    return [text.partition("=")[2] if split else text for text in completions(word)]


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, shell_complete=_completed)
def run(arguments: tuple[str, ...]) -> int:
    """Run an experiment or one point, by Hydra's command line.

    All arguments go to Hydra as they are; `aegaeon run --help` is Hydra's.
    """
    from aegaeon.experiment.hydra_job import run_hydra

    return run_hydra(arguments)


@click.command(
    epilog=examples(
        "aegaeon reproduce            the four systems of every figure, 5 minutes on 2 cores",
        "aegaeon reproduce fig13c     one experiment",
        "aegaeon reproduce --all      the variants and the sensitivity experiments too",
    )
)
@click.argument("names", metavar="[EXPERIMENT]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Run variants and sensitivity too.")
@stored_option
def reproduce(names: tuple[str, ...], everything: bool, stored: Path) -> int:
    """Run experiments again and compare with the stored rows.

    Runs that have finished before are skipped, so an interrupted command may be repeated. Figures
    are drawn and claims are judged at the end. The exit code is 0 if every fresh row equals its
    stored row.
    """
    from aegaeon.experiment.reproduce import reproduce as reproduce_all

    return reproduce_all(names, stored, everything=everything)


@click.command(
    epilog=examples(
        "aegaeon validate --data artifact/",
        "aegaeon validate --data artifact/ --markdown docs/validation.md",
    )
)
@click.option("--data", type=FILE, required=True, help="Folder of the artifact's files.")
@click.option("--markdown", type=FILE, help="Document whose table is replaced.")
def validate(data: Path, markdown: Path | None) -> None:
    """Compare the simulator with the public artifact's.

    Both simulate the artifact's own workload files, which are not part of this repository
    (docs/validation.md).
    """
    from aegaeon.experiment.artifact_check import validate as compare
    from aegaeon.experiment.artifact_report import print_table, write_markdown

    comparisons = compare(data)
    print_table(comparisons)
    if markdown:
        write_markdown(comparisons, markdown)
