"""`aegaeon workload`: look into traces, write workload files, fit lengths."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import click

from aegaeon.cli.options import FILE
from aegaeon.cli.tree import Tree, examples


class _Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers separated by commas."""

    name = "numbers"

    def __init__(self, kind: Callable[[str], float]) -> None:
        self._kind = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:  # noqa: ANN401
        """Return the numbers; refuse text that is none, and numbers of 0 or less."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(self._kind(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r}: expected numbers separated by commas, as 16,20", param, ctx)
        if not all(0 < number < float("inf") for number in numbers):
            self.fail(f"{value!r}: expected finite numbers above 0", param, ctx)
        return numbers


_COUNTS, _FACTORS = _Numbers(int), _Numbers(float)


@click.group(
    cls=Tree,
    epilog=examples(
        "aegaeon workload describe azure.csv --format azure",
        "aegaeon workload generate --count 16,80 --rate 0.1 -o synth",
        "aegaeon workload lengths synth-*.csv -o workloads/data/sharegpt_lengths.json",
    ),
)
def workload() -> None:
    """Look into traces, write workload files, fit lengths.

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


@workload.command(
    epilog=examples(
        "aegaeon workload describe azure.csv.gz --format azure",
        "aegaeon workload describe other.jsonl --format mooncake --time-unit s --skip-empty",
    )
)
@click.argument("path", metavar="TRACE", type=FILE)
@click.option("--format", "kind", required=True, help="Format of the file (workloads/README.md).")
@click.option("--time-unit", default="", help="s, ms, us, ns or date, in place of the format's.")
@click.option("--skip-empty", is_flag=True, help="Leave out rows without tokens.")
def describe(path: Path, kind: str, time_unit: str, skip_empty: bool) -> None:
    """Show what a trace holds: requests, rates, lengths, models."""
    from workloads import Reading, describe_trace

    facts = describe_trace(path, kind, Reading(time_unit, skip_empty))
    for name, text in facts.items():
        click.echo(f"{name + ':':24s}{text}")


@workload.command(
    epilog=examples(
        "aegaeon workload generate --count 16,20,24 --rate 0.1,0.5 -o synth",
        "aegaeon workload generate --count 80 --rate 0.1 --input-scale 1,2 -o synth",
        "aegaeon workload generate --count 40 --rate 0.1 -o synth workload=bursty",
    )
)
@click.option("--count", type=_COUNTS, required=True, help="Models, as 16,20,24.")
@click.option("--rate", type=_FACTORS, required=True, help="Requests/s of one model, as 0.1,0.5.")
@click.option("--input-scale", type=_FACTORS, default="1", help="Factors of prompt lengths.")
@click.option("--output-scale", type=_FACTORS, default="1", help="Factors of output lengths.")
@click.option("--duration", type=float, default=120.0, show_default=True, help="Seconds.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all draws.")
@click.option("-o", "--output", type=FILE, required=True, help="Folder of the files.")
@click.argument("overrides", nargs=-1)
def generate(
    count: tuple[int, ...],
    rate: tuple[float, ...],
    input_scale: tuple[float, ...],
    output_scale: tuple[float, ...],
    duration: float,
    seed: int,
    output: Path,
    overrides: tuple[str, ...],
) -> None:
    """Write workload files in the artifact's format.

    There is one file for each combination: synth-COUNT-RATE-INPUT-OUTPUT.csv. OVERRIDES are those
    of `aegaeon run`, as models=market_6_7b. `workload=artifact workload.path=FILE` reads a file
    back.
    """
    from aegaeon.experiment.generate import Traffic
    from aegaeon.experiment.generate import generate as write

    points = [
        Traffic(int(c), *rest) for c, *rest in product(count, rate, input_scale, output_scale)
    ]
    for path, drawn in write(overrides, points, duration, seed, output):
        clipped = f", {drawn.clipped} cut to their model's longest" if drawn.clipped else ""
        click.echo(f"{path}: {len(drawn)} requests{clipped}")
