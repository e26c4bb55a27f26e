"""`aegaeon bench`: times and bandwidths of the simulator, the live engine, and its copies."""

from __future__ import annotations

import atexit
import importlib.util
import os
from pathlib import Path

import click

from aegaeon.cli.options import path_option
from aegaeon.cli.tree import Tree, examples
from aegaeon.errors import UserError
from aegaeon.paths import RUNS

_PARTS = ("weights", "kv", "engines", "pooling")
_POSITIVE = click.IntRange(min=1)
_device = click.option("--device", help="cpu, cuda or cuda:<index>.", show_default="cuda if any")
_megabytes = click.option(
    "--megabytes", type=_POSITIVE, default=128, help="MiB of weights of one model."
)


@click.group(
    cls=Tree,
    epilog=examples(
        "aegaeon bench sim --large    the simulator, up to 2,000 models for an hour",
        "aegaeon bench live           the live engine against its targets",
    ),
)
def bench() -> None:
    """Time the simulator, the live engine and its copies.

    All but `sim` need torch, and `live` needs vLLM (`make live-setup`).
    """


@bench.command(epilog=examples("aegaeon bench sim", "aegaeon bench sim --large"))
@click.option("--large", is_flag=True, help="Also simulate 2,000 models for an hour.")
def sim(large: bool) -> None:
    """Time the simulator.

    Prints CPU seconds per point and events per second, medians of interleaved repeats.
    """
    from aegaeon.bench import bench as time_simulator

    time_simulator(large=large)


@bench.command(
    epilog=examples(
        "aegaeon bench live                            everything, to runs/bench_live.json",
        "aegaeon bench live --only weights --only kv   the copies alone",
        "aegaeon bench live --store                    keep the numbers for `aegaeon claims`",
    )
)
@_device
@click.option("--rounds", type=_POSITIVE, default=11, help="Interleaved rounds.")
@_megabytes
@click.option("--models", type=click.IntRange(min=3), default=20, help="Engines in one process.")
@click.option("--only", type=click.Choice(_PARTS), multiple=True, help="Part to measure.")
@path_option("--out", default=RUNS / "bench_live.json", text="File for the numbers.")
@click.option("--store", is_flag=True, help="Write to the stored results instead of --out.")
@click.pass_context
def live(
    context: click.Context,
    device: str | None,
    rounds: int,
    megabytes: int,
    models: int,
    only: tuple[str, ...],
    out: Path,
    store: bool,
) -> int:
    """Measure the live engine against its targets.

    The targets: weight switches and KV restores against memcpy, many engines in one process, and
    throughput against vLLM alone. The exit code is 1 if a target is missed.
    """
    chosen_out = context.get_parameter_source("out") is not click.core.ParameterSource.DEFAULT
    if store and (only or chosen_out):
        raise click.UsageError("--store keeps every number in its own file: leave --only and --out")
    _need("torch")
    from aegaeon.live.measure.targets import STORED
    from aegaeon.live.measure.targets.measured import measured

    # Triton's bindings list on stderr what live engines still hold when the interpreter ends.
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))
    path = STORED if store else out
    reached = measured(device, only or _PARTS, rounds, megabytes, models, path)
    click.echo(path)
    return int(not reached)


@bench.command(epilog=examples("aegaeon bench memory --device cuda --megabytes 1024"))
@click.option("--device", default="cpu", help="cpu, cuda or cuda:<index>.")
@_megabytes
@click.option("--repeats", type=_POSITIVE, default=21, help="Interleaved repeats.")
def memory(device: str, megabytes: int, repeats: int) -> None:
    """Compare weight switches with one memcpy."""
    _need("torch")
    from aegaeon.live.measure.memory import report

    report(device, megabytes, repeats)


@bench.command(epilog=examples("aegaeon bench kernels", "aegaeon bench kernels --repeats 31"))
@click.option(
    "--device", type=click.Choice(("cpu", "cuda")), help="Device.", show_default="cuda if any"
)
@click.option("--repeats", type=_POSITIVE, default=15, help="Rounds per shape.")
def kernels(device: str | None, repeats: int) -> None:
    """Compare copies of KV blocks with one memcpy."""
    _need("torch")
    from kernels.bench import compare

    try:
        compare(device, repeats)
    except ValueError as error:
        raise UserError(str(error)) from error


def _need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"{package} is not installed here, and this benchmark needs it; `make live-setup`"
        )
