"""`aegaeon profile`: what models cost, measured, fitted or estimated."""

from __future__ import annotations

import os
from pathlib import Path

import click

from aegaeon.cli.options import FILE, path_option
from aegaeon.cli.tree import Tree, examples
from aegaeon.paths import PROFILES


@click.group(
    cls=Tree,
    epilog=examples(
        "aegaeon profile measure experiment=live_fidelity    this machine, on live engines",
        "aegaeon profile fit latency_profiles.csv            the public artifact's devices",
    ),
)
def profile() -> None:
    """Measure, fit or estimate what models cost on a device.

    A profile gives the seconds of a prefill, a decode step and a switch (profiles/README.md). The
    simulator and the policies read it.
    """


@profile.command(
    epilog=examples(
        "aegaeon profile measure hardware=cpu_live models=tiny_live",
        "aegaeon profile measure experiment=live_fidelity    that experiment's fleet and memory",
    )
)
@click.argument("overrides", metavar="[OVERRIDE]...", nargs=-1)
@path_option("--out", default=PROFILES, text="Folder for the profiles.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, help="Rounds over the grid.")
def measure(overrides: tuple[str, ...], out: Path, repeats: int) -> None:
    """Measure models on live engines here, and fit.

    Overrides choose the fleet, as for `aegaeon run`. Needs `make live-setup`; nothing else should
    run meanwhile.
    """
    from aegaeon.experiment.profile import profile as measure_and_fit

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    measure_and_fit(overrides, out, repeats)


@profile.command(
    epilog=examples(
        "aegaeon profile fit latency_profiles.csv",
        "aegaeon profile fit latency_profiles.csv --model qwen2.5-7b --device h800 --out mine",
    )
)
@click.argument("table", type=FILE)
@path_option("--out", default=PROFILES, text="Folder for the profiles.")
@click.option("--model", "models", multiple=True, help="Model type to fit.", show_default="all")
@click.option("--device", "devices", multiple=True, help="Device to fit.", show_default="all")
def fit(table: Path, out: Path, models: tuple[str, ...], devices: tuple[str, ...]) -> None:
    """Fit profiles to a CSV of measured latencies.

    TABLE is latency_profiles.csv of the public artifact, or a file like it, with one row per model,
    device, tp, prompt length and batch. Each profile is printed with the held-out median error of
    its worse phase.
    """
    from profiles.artifact_fit import fit_table

    fit_table(table, out, models, devices)


@profile.command(epilog=examples("aegaeon profile roofline"))
def roofline() -> None:
    """Calibrate the roofline from all profiles.

    The roofline estimates what a model costs on a device that has no profile of it. Writes
    profiles/roofline.json and the table of errors in profiles/README.md.
    """
    from profiles.roofline_fit import recalibrate
    from profiles.roofline_table import update_readme

    update_readme(PROFILES / "README.md", recalibrate())
