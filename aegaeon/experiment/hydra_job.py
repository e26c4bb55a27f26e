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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from aegaeon.errors import UserError
from aegaeon.experiment import notes, summary, workers
from aegaeon.experiment.backends.registry import runner
from aegaeon.experiment.config import Config, expected_requests, from_hydra
from aegaeon.experiment.distinctions import distinctions
from aegaeon.experiment.execute import execute
from aegaeon.experiment.hydra_options import full_errors, parsed
from aegaeon.experiment.outside import outside_code, outside_profiles
from aegaeon.experiment.overrides import overrides
from aegaeon.experiment.plan import plan
from aegaeon.experiment.planned import Plan, Result, nominal_rate
from aegaeon.experiment.points import Settings, settings_and_seeds
from aegaeon.experiment.refusals import translated
from aegaeon.experiment.sweep import requested
from aegaeon.files import free_bytes, of_place
from aegaeon.paths import CONF, RUNS, given
from aegaeon.results.config_hash import config_hash
from aegaeon.results.inputs import input_digests
from aegaeon.results.record import open_run
from aegaeon.results.store import finished, other_code, stored_row

_BAR_FROM_REQUESTS = 20_000
_LARGE_REQUESTS = 500_000
_ROOM_BYTES = 16 << 20
# Exit codes above this one are those of commands that a signal ended.
_SIGNALLED = 128


def resolve(path: str) -> Path:
    """Return the folder that `paths.runs` names; an empty name is the default."""
    return given(path) if path else RUNS


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _job(cfg: DictConfig) -> float:
    notes.follow_owner()
    with notes.marked(_number()):
        return run_point(cfg)


def _number() -> int | None:
    """Return the number of this job among the jobs of a sweep; None for a single run."""
    composed: Any = HydraConfig.instance().cfg
    number: int | None = OmegaConf.select(composed, "hydra.job.num", default=None)
    return number


def run_point(cfg: DictConfig) -> float:
    """Run one composed configuration, a run per seed; leave notes for the sweep's own process.

    The return value is for sweepers that optimise: the mean `slo_attainment` of the seeds. A seed
    that failed or was refused counts as 0.
    """
    note: notes.Note = {"job": cfg.name, "status": "failed"}
    try:
        config = from_hydra(cfg)
        settings, seeds = settings_and_seeds(cfg)
        inputs = {
            **input_digests(settings),
            **distinctions(config),
            **outside_code(config.system),
            **outside_profiles(config),
        }
    except UserError as error:
        notes.leave(note | {"error": str(error), "user": True})
        return 0.0
    attained = []
    for seed in seeds:
        started = time.perf_counter()
        note["label"] = label(config, seed)
        outcome = _attempt(config, seed, {**settings, "seed": seed}, inputs)
        notes.leave(note | outcome | {"seconds": time.perf_counter() - started})
        attained.append(outcome.get("row", {}).get("slo_attainment") or 0.0)
    return fmean(attained)


def label(config: Config, seed: int) -> str:
    """Return a short name of a run for people."""
    rate = nominal_rate(config.workload)
    load = f"{rate:g} req/s" if rate else config.workload.name
    return f"{config.system.name}, {config.models.count} models, {load}, seed {seed}"


def _attempt(
    config: Config, seed: int, settings: Settings, inputs: Mapping[str, str]
) -> notes.Note:
    """Run one seed unless it has finished before; an error becomes part of the note.

    What is refused before the work starts leaves nothing behind: no directory and no place to sync.
    """
    runs_root = resolve(config.paths.runs)
    place = {"runs": str(runs_root), "tracking": config.tracking.uri}
    key = config_hash(settings, inputs)
    started = time.perf_counter()
    recorded: notes.Note = {}
    try:
        if finished(runs_root, config.name, key, config.keep):
            row = stored_row(runs_root, config.name, key)
            other = other_code(runs_root, config.name, key)
            return {**place, "status": "skipped", "key": key, "row": row, "other": other}
        _check_room(runs_root)
        _announce(config, seed)
        planned = _prepared(config, seed)
        with open_run(
            *(runs_root, config.name, settings),
            inputs=inputs,
            overrides=overrides(settings, HydraConfig.get()),
            sweep_id=notes.sweep_id(),
            command=notes.command(),
            started=started,
        ) as record:
            recorded = place
            result = _with_bar(planned(), record.directory)
            for name, table in result.tables.items():
                record.write(name, table)
            row = record.finish(result.row)
            return {**place, "status": "finished", "key": key, "row": row}
    except Exception as error:
        return {**recorded, **_failure(error)}


def _announce(config: Config, seed: int) -> None:
    """Say that a run is large, before the silent half minute or more that its draws take."""
    expected = expected_requests(config)
    if expected >= _LARGE_REQUESTS:
        text = f"{label(config, seed)}: about {expected:,.0f} requests; this takes minutes"
        Console(stderr=True).print(Text(text), highlight=False, soft_wrap=True)


def _prepared(config: Config, seed: int) -> Callable[[], Plan]:
    """Return what gives the plan; raises UserError for what cannot be run.

    An error of the code is raised by the returned function, so that the run's record has it.
    """
    try:
        planned = plan(config, seed)
        runner(config.backend).prepare(planned)
    except UserError:
        raise
    except Exception as error:
        return partial(_raise, error)
    return lambda: planned


def _raise(error: Exception) -> NoReturn:
    raise error


def _failure(error: Exception) -> notes.Note:
    """Return the part of a note that tells an error, and whether the error is a user's mistake."""
    told = of_place(error) if isinstance(error, OSError) else None
    if isinstance(error, UserError):
        told = str(error)
    return {"error": told or f"{type(error).__name__}: {error}", "user": told is not None}


def _check_room(runs: Path) -> None:
    """Refuse a disk that is full before the work whose results it would have to take."""
    place = next(folder for folder in (runs, *runs.parents) if os.path.lexists(folder))
    if not place.is_dir():
        raise UserError(f"paths.runs: {place} is no folder; give the path of a folder")
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

    Raises UserError for what Hydra refuses, and SystemExit with Hydra's code after `--help`.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    before, sys.argv = sys.argv, ["aegaeon run", *arguments]
    try:
        with full_errors(), translated():
            return _run(parsed(arguments), ("aegaeon", "run", *arguments))
    finally:
        sys.argv = before


def _shown() -> int:
    """Let Hydra print what was asked for; return the exit code."""
    try:
        _job()
    except SystemExit as stop:
        # Hydra has said what is wrong, such as an unknown --package.
        return 2 if stop.code else 0
    return 0


def _run(arguments: Namespace, words: Sequence[str]) -> int:
    if arguments.help or arguments.hydra_help:
        _job()
        return 0
    sweep = requested(arguments)
    if arguments.cfg or arguments.info:
        return _shown()
    console = Console(stderr=True)
    many = arguments.multirun or bool(sweep.own and not arguments.run)
    if many and not arguments.multirun:
        sys.argv.insert(1, "--multirun")
    if many and sweep.own:
        console.print(Text(sweep.notice()), highlight=False, soft_wrap=True)
    if sweep.tracking is not None:
        _check_room(resolve(sweep.tracking[0]))
        summary.check_tracking(resolve(sweep.tracking[0]), sweep.tracking[1])
    code, optimum = 0, ""
    try:
        with notes.collected(many, sweep.runs, words) as left, workers.surviving():
            _job()
            optimum = notes.optimum()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
        # A signal ends the command now; without a note there is nothing to report.
        if not left or code > _SIGNALLED:
            raise
    code = max(summary.close(left, many, console), code)
    if optimum:
        console.print(Text(optimum), highlight=False, soft_wrap=True)
    return code
