"""`aegaeon reproduce`: run the experiments, compare with the stored rows, draw, check claims."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from aegaeon.claims import check, print_table, write_json
from aegaeon.cli import FIGURES, ROOT, RUNS
from aegaeon.errors import UserError
from aegaeon.results.commands import diff_command
from aegaeon.run import main as run
from aegaeon.sweep import is_sweep

EXPERIMENTS = (
    *("fig04", "fig11a", "fig11b", "fig11c", "fig12a", "fig12b", "fig12c", "fig12d"),
    *("fig13a", "fig13b", "fig13c", "fig11a_pcie4", "fig11a_steady"),
)


def reproduce(names: Sequence[str], stored: Path) -> int:
    """Run `names` (all when empty); return 0 if every fresh row equals its stored one.

    Figures are drawn from the stored tables, whose rows have just been met or not; what differs is
    listed, and `aegaeon results export` would store the fresh rows.
    """
    from figures.render import render

    unknown = sorted(set(names) - set(EXPERIMENTS))
    if unknown:
        raise UserError(f"unknown experiment {unknown[0]}; known: {', '.join(EXPERIMENTS)}")
    console = Console()
    chosen = list(names) or list(EXPERIMENTS)
    started, failed = time.perf_counter(), []
    for count, name in enumerate(chosen, 1):
        console.rule(f"[bold]{name}[/bold] ({count} of {len(chosen)})", align="left")
        flags = ["-m"] if is_sweep(name, ROOT / "conf") else []
        if run([*flags, f"experiment={name}"]):
            failed.append(name)
    console.rule("[bold]fresh rows against stored rows[/bold]", align="left")
    same = diff_command(chosen, RUNS, stored, console=console)
    paths = render([], stored, FIGURES)
    verdicts = check(stored)
    print_table(verdicts, console)
    write_json(verdicts, RUNS / "claims.json")
    minutes = (time.perf_counter() - started) / 60
    console.print(f"{len(paths)} figure files in {FIGURES.relative_to(ROOT)}; {minutes:.1f} min")
    console.print("browse every run with `make mlflow`")
    if failed:
        console.print(f"failed runs in {', '.join(failed)}", style="red")
    return int(bool(failed) or not same)
