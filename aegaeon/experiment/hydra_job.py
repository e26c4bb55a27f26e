"""`aegaeon run`: compose a configuration with Hydra and run it, once or as a resumable sweep.

A job of Hydra is one point and has a run per seed. A run writes its own directory
(runs/<experiment>/<configuration hash>); a run whose directory says that it finished is skipped.
MLflow is checked before the first job. When all jobs are done, the process that started them
reports, and then logs the runs to MLflow. A failed run is recorded and the sweep goes on; a signal
ends the sweep.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra

# Hydra has no public parser of its own command line.
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from aegaeon.errors import UserError
from aegaeon.experiment import notes, summary, workers
from aegaeon.experiment.config import Config, from_hydra
from aegaeon.experiment.execute import execute
from aegaeon.experiment.outside import outside_code
from aegaeon.experiment.overrides import overrides
from aegaeon.experiment.plan import plan
from aegaeon.experiment.planned import Plan, Result, nominal_rate
from aegaeon.experiment.points import Settings, settings_and_seeds
from aegaeon.experiment.sweep import requested
from aegaeon.files import free_bytes, of_place
from aegaeon.paths import CONF, RUNS, given
from aegaeon.results.config_hash import config_hash
from aegaeon.results.inputs import input_digests
from aegaeon.results.record import open_run
from aegaeon.results.store import finished, other_code

_BAR_FROM_REQUESTS = 20_000
_ROOM_BYTES = 16 << 20
# Exit codes above this one are those of commands that a signal ended.
_SIGNALLED = 128


def resolve(path: str) -> Path:
    """Return the folder that `paths.runs` names; an empty name is the default."""
    return given(path) if path else RUNS


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _job(cfg: DictConfig) -> None:
    """Run one composed configuration, a run per seed; leave notes for the sweep's own process."""
    notes.follow_owner()
    with notes.marked(_number()):
        _run_seeds(cfg)


def _number() -> int | None:
    """Return the number of this job among the jobs of a sweep; None for a single run."""
    composed: Any = HydraConfig.instance().cfg
    number: int | None = OmegaConf.select(composed, "hydra.job.num", default=None)
    return number


def _run_seeds(cfg: DictConfig) -> None:
    note: notes.Note = {"job": cfg.name, "status": "failed"}
    try:
        config = from_hydra(cfg)
        settings, seeds = settings_and_seeds(cfg)
        inputs = {**input_digests(settings), **outside_code(config.system)}
    except UserError as error:
        notes.leave(note | {"error": str(error), "user": True})
        return
    note |= {"runs": str(resolve(config.paths.runs)), "tracking": config.tracking.uri}
    for seed in seeds:
        started = time.perf_counter()
        note["label"] = label(config, seed)
        outcome = _attempt(config, seed, {**settings, "seed": seed}, inputs)
        notes.leave(note | outcome | {"seconds": time.perf_counter() - started})


def label(config: Config, seed: int) -> str:
    """Return a short name of a run for people."""
    rate = nominal_rate(config.workload)
    load = f"{rate:g} req/s" if rate else config.workload.name
    return f"{config.system.name}, {config.models.count} models, {load}, seed {seed}"


def _attempt(
    config: Config, seed: int, settings: Settings, inputs: Mapping[str, str]
) -> notes.Note:
    """Run one seed unless it has finished before; an error becomes part of the note."""
    runs_root = resolve(config.paths.runs)
    key = config_hash(settings, inputs)
    try:
        if finished(runs_root, config.name, key, config.keep):
            other = other_code(runs_root, config.name, key)
            return {"status": "skipped", "key": key, "other": other}
        _check_room(runs_root)
        with open_run(
            runs_root,
            config.name,
            settings,
            inputs=inputs,
            overrides=overrides(settings, HydraConfig.get()),
            sweep_id=notes.sweep_id(),
        ) as record:
            result = _with_bar(plan(config, seed), record.directory)
            if lacking := sorted(set(config.keep) - set(result.tables)):
                made = ", ".join(result.tables)
                raise UserError(f"keep: this backend makes no table {lacking[0]!r}, only {made}")
            for name, table in result.tables.items():
                record.write(name, table)
            return {"status": "finished", "key": key, "row": record.finish(result.row)}
    except UserError as error:
        return {"error": str(error), "user": True}
    except OSError as error:
        reason = of_place(error)
        return {"error": reason or f"{type(error).__name__}: {error}", "user": reason is not None}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "user": False}


def _check_room(runs: Path) -> None:
    """Refuse a disk that is full before the work whose results it would have to take."""
    free = free_bytes(runs)
    if free < _ROOM_BYTES:
        raise UserError(
            f"{runs}: {free:,} bytes are free there, a run's tables and logs need at least "
            f"{_ROOM_BYTES:,}; make room or set paths.runs"
        )


def _with_bar(planned: Plan, folder: Path) -> Result:
    total = len(planned.arrivals)
    if total < _BAR_FROM_REQUESTS or not sys.stderr.isatty():
        return execute(planned, folder=folder)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("requests", total=total)
        return execute(planned, lambda done: progress.update(task, completed=done), folder)


def run_hydra(arguments: Sequence[str]) -> int:
    """Run the arguments of `aegaeon run`; return the exit code.

    Raises SystemExit with Hydra's own code for what Hydra refuses.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    before, sys.argv = sys.argv, ["aegaeon run", *arguments]
    try:
        return _run(get_args_parser().parse_args(arguments))
    finally:
        sys.argv = before


def _run(arguments: Namespace) -> int:
    shown = (arguments.help, arguments.hydra_help, arguments.cfg, arguments.info)
    if any(shown) or arguments.shell_completion:
        _job()
        return 0
    console = Console(stderr=True)
    sweep = requested(arguments)
    many = arguments.multirun or bool(sweep.own and not arguments.run)
    if many and not arguments.multirun:
        sys.argv.insert(1, "--multirun")
    if many and sweep.own:
        console.print(Text(sweep.notice()), highlight=False, soft_wrap=True)
    if sweep.tracking is not None:
        summary.check_tracking(resolve(sweep.tracking[0]), sweep.tracking[1])
    code = 0
    try:
        with notes.collected(many, sweep.runs) as left, workers.surviving():
            _job()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
        # A signal ends the command now; without a note there is nothing to report.
        if not left or code > _SIGNALLED:
            raise
    return max(summary.close(left, many, console), code)
