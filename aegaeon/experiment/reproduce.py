"""`aegaeon reproduce`: run the experiments, compare with the stored rows, draw, check claims."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from aegaeon.claims import check, print_table, write_json
from aegaeon.errors import UserError
from aegaeon.experiment.hydra_job import run_hydra
from aegaeon.experiment.summary import UNLOGGED
from aegaeon.experiment.sweep import swept_by
from aegaeon.paths import FIGURES, HOME, RUNS
from aegaeon.results.details import diff_details
from aegaeon.results.diff import diff
from aegaeon.results.store import collect, current_records, load_stored

SYSTEMS = ("aegaeon", "serverlessllm", "serverlessllm_plus", "muxserve")
FIGURE_EXPERIMENTS = (
    *("fig04", "fig11a", "fig11b", "fig11c", "fig12a", "fig12b", "fig12c", "fig12d"),
    *("fig13a", "fig13b", "fig13c", "fig14", "fig17_left", "fig17_right"),
)
EXPERIMENTS = (
    *FIGURE_EXPERIMENTS,
    *("fig11a_pcie4", "fig11a_steady", "fig11a_sleep_mode", "fig11b_sleep_mode"),
)
RTOL = 1e-9


def reproduce(names: Sequence[str], stored: Path, everything: bool = False) -> int:
    """Run experiments; return 0 if every fresh row equals its stored one, and its tables too.

    By default the four main systems of every figure run; `everything` adds their variants and the
    sensitivity experiments. Cells that differ are listed; `aegaeon results export --reference`
    would store the fresh rows. Figures are drawn and claims are judged from the stored tables.
    Raises UserError for an unknown name.
    """
    from figures.render import render

    unknown = sorted(set(names) - set(EXPERIMENTS))
    if unknown:
        raise UserError(f"unknown experiment {unknown[0]}; known: {', '.join(EXPERIMENTS)}")
    console = Console()
    chosen = list(names) or list(EXPERIMENTS if everything else FIGURE_EXPERIMENTS)
    for name in chosen:
        # Runs that cannot be compared are refused now, not after hours.
        current_records(RUNS, name)
    started = time.perf_counter()
    failed = [name for name in chosen if _run(name, everything, console)]
    console.rule("[bold]fresh rows against stored rows[/bold]", align="left")
    same = [_compare(name, stored, everything, console) for name in chosen]
    drawn = render([], stored, FIGURES)
    verdicts = check(stored)
    print_table(verdicts, console)
    write_json(verdicts, RUNS / "claims.json")
    minutes = (time.perf_counter() - started) / 60
    place = FIGURES.relative_to(HOME)
    console.print(f"{len(drawn.paths)} figure files in {place}; {minutes:.1f} min")
    for line in drawn.reasons:
        console.print(f"left out {line}", highlight=False)
    console.print("browse every run with `make mlflow`")
    if failed:
        console.print(f"failed runs in {', '.join(failed)}", style="red")
    return int(bool(failed) or not all(same))


def _run(name: str, everything: bool, console: Console) -> int:
    console.rule(f"[bold]{name}[/bold]", align="left")
    systems = [system for system in _swept_systems(name) if everything or system in SYSTEMS]
    code = run_hydra([f"experiment={name}", *([f"system={','.join(systems)}"] if systems else [])])
    return 0 if code == UNLOGGED else code


def _swept_systems(name: str) -> list[str]:
    """Return the systems that an experiment sweeps over; none where it has one only."""
    return swept_by(name).get("system", [])


def _compare(name: str, stored_dir: Path, everything: bool, console: Console) -> bool:
    stored = load_stored(name, stored_dir)
    if not everything and _swept_systems(name):
        stored = stored[stored["system"].isin(SYSTEMS)]
    report = diff(collect(RUNS, name), stored, RTOL)
    console.print(f"{name}: {report.summary()}", highlight=False)
    details = diff_details(RUNS, name, stored_dir, RTOL)
    for line in (*report.details(), *details):
        console.print(f"  {line}", highlight=False)
    return report.ok and not details
