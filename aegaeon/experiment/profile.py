"""`aegaeon profile measure`: measure what models cost on the live engine, fit and store it.

The configuration is composed as for `aegaeon run`, and its fleet is measured. `profiles/README.md`
says what the numbers mean.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aegaeon.errors import UserError
from aegaeon.experiment.compose import composed
from aegaeon.experiment.config import Config, Live
from aegaeon.experiment.plan import plan
from aegaeon.paths import PROFILES
from aegaeon.policy.system import Aegaeon
from aegaeon.results.parquet import write_table
from aegaeon.results.provenance import cpu_model
from profiles.engine_fit import fit_engine, fit_type
from profiles.engine_profile import EngineProfile, save_engine
from profiles.engine_samples import COLUMNS
from profiles.store import Profile, save

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aegaeon.core import Deployment
    from aegaeon.live.measure.profile_run import Profiled

RAW = "measurements.parquet"
_PER_TYPE = 2
_PROBES = 60


def profile(
    overrides: Sequence[str],
    out: Path | None = None,
    repeats: int = 3,
    console: Console | None = None,
) -> list[Path]:
    """Measure the composed configuration and write its profiles below `out`; return the files.

    Raises UserError for a configuration that cannot be measured.
    """
    console = console or Console()
    config = live_config(overrides)
    if repeats < 1:
        raise UserError(f"--repeats: must be at least 1, got {repeats}")
    if config.hardware.device.name in ("", "???"):
        raise UserError("hardware.device.name: a profile needs the device's name; give it one")
    backend = config.backend
    if not isinstance(backend, Live):
        raise UserError(f"backend: a profile is measured on backend=live, not {backend.name}")
    from aegaeon.live.preflight.fingerprint import fingerprint
    from aegaeon.live.preflight.machine import check_machine
    from aegaeon.live.preflight.room import alone

    deployment = _reduced(plan(config, config.seeds[0]).deployment)
    check_machine(backend, deployment.gpus, deployment.models)
    scratch = tempfile.TemporaryDirectory(prefix="aegaeon-profile-")
    with alone(backend), scratch as logs, _bar(console) as begin:
        from aegaeon.live.measure.profile_run import machine, run_profile

        found = run_profile(config.system, deployment, backend, Path(logs), repeats, _PROBES, begin)
    threads = {"threads": str(backend.threads), "device": backend.device}
    stamp = machine(fingerprint(), cpu_model(), os.cpu_count() or 1) | threads
    samples = table(found, deployment)
    profiles, engine = fitted(samples, deployment, stamp, backend.device == "cpu")
    show(profiles, engine, console)
    folder = out or PROFILES
    written = [save(each, folder) for each in profiles] + [save_engine(engine, folder)]
    raw = folder / engine.device / RAW
    write_table(samples, raw)
    for path in [*written, raw]:
        console.print(str(path), highlight=False, soft_wrap=True)
    return [*written, raw]


def live_config(overrides: Sequence[str]) -> Config:
    """Compose a configuration on the live backend.

    Where the overrides choose no system and no experiment, half of the devices prefill.
    """
    given = {text.split("=")[0].lstrip("+~") for text in overrides}
    chosen = [] if given & {"backend", "experiment"} else ["backend=live"]
    config = composed([*chosen, *overrides])
    free = not any(key == "experiment" or key.startswith("system") for key in given)
    if free and isinstance(config.system, Aegaeon):
        first = max(1, config.hardware.gpus // 2)
        config.system = replace(config.system, prefill=first, decode=config.hardware.gpus - first)
    return config


def table(found: Profiled, deployment: Deployment) -> pd.DataFrame:
    """Return all samples as rows (`profiles.engine_samples.COLUMNS`), messages included."""
    types = {model.name: model.type for model in deployment.models}
    rows = []
    for spec in found.fleet:
        for sample in found.measured.get(spec.id, ()):
            row = asdict(sample)
            stage = "any" if sample.kind in ("host", "slot") else sample.stage
            plays = stage == "any" or spec.stage.value in (stage, "full")
            rows.append({**row, "type": types[row["model"]], "instance": spec.id, "plays": plays})
    for sample in found.alone:
        kept = {"type": types[sample.model], "instance": -1, "plays": True}
        rows.append({**asdict(sample), **kept})
    return pd.DataFrame(rows)[list(COLUMNS)]


def fitted(
    samples: pd.DataFrame, deployment: Deployment, machine: dict[str, str], inline: bool
) -> tuple[list[Profile], EngineProfile]:
    """Fit a profile per model type, and the engine's."""
    device = deployment.device.name
    types = {model.type: model for model in deployment.models}
    profiles = [fit_type(samples, spec, device, machine) for spec in types.values()]
    return profiles, fit_engine(samples, profiles, machine, inline)


def show(profiles: Sequence[Profile], engine: EngineProfile, console: Console) -> None:
    """Print each fit with its errors on held-out points, and the engine's overheads."""
    errors = Table(title=f"{engine.device}: held-out errors, median / 90 %")
    for heading in ("model", "points", "prefill", "decode", "switch", "prefetched"):
        errors.add_column(heading)
    for each in profiles:
        cells = [each.model, str(each.prefill_quality.points)]
        for quality in (each.prefill_quality, each.decode_quality):
            low, high = quality.held_out_median_error, quality.held_out_p90_error
            cells.append(f"{low:.1%} / {high:.1%}")
        if each.switch is not None:
            cells += [f"{1e3 * s:.2f} ms" for s in asdict(each.switch).values()]
        errors.add_row(*cells)
    console.print(errors)
    for key, value in asdict(engine.overheads).items():
        if key.endswith("_s"):
            console.print(f"  {key:18s} {1e3 * value:.3f} ms", highlight=False)
        if key.startswith("crowd_"):
            console.print(f"  {key:18s} {value:.3f} x", highlight=False)
    console.print(f"  {'KV copies':18s} {engine.kv_bandwidth / 1e9:.2f} GB/s", highlight=False)


def _reduced(deployment: Deployment) -> Deployment:
    """Keep the first models of each type: the others cost the same."""
    kept, seen = [], dict.fromkeys({model.type for model in deployment.models}, 0)
    for model in deployment.models:
        seen[model.type] += 1
        if seen[model.type] <= _PER_TYPE:
            kept.append(model)
    return replace(deployment, models=tuple(kept))


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[int], Callable[[], None]]]:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("starting engines", total=None)

        def begin(total: int) -> Callable[[], None]:
            progress.update(task, description="measuring", total=total)
            return lambda: progress.advance(task)

        yield begin
