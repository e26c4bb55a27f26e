"""`aegaeon workload`: the data that workloads are generated from."""

from __future__ import annotations

from pathlib import Path

import click

from aegaeon.cli.options import FILE
from aegaeon.cli.tree import Tree, examples


@click.group(
    cls=Tree,
    epilog=examples(
        "aegaeon workload lengths synth-*.csv -o workloads/data/sharegpt_lengths.json",
    ),
)
def workload() -> None:
    """Make the data that workloads are generated from.

    workloads/README.md explains the formats.
    """


@workload.command(
    epilog=examples(
        "aegaeon workload lengths synth-*.csv -o workloads/data/sharegpt_lengths.json",
    )
)
@click.argument("traces", metavar="CSV...", nargs=-1, required=True, type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="JSON file to write.")
def lengths(traces: tuple[Path, ...], output: Path) -> None:
    """Fit a table of prompt and answer lengths to traces.

    Each CSV is a trace in the format of the public artifact.
    """
    from workloads.lengths.fit import fit

    table = fit(list(traces))
    table.save(output)
    means = f"mean input {table.input_mean}, mean output {table.output_mean}"
    click.echo(f"{output}: {table.n} draws, {means}")
