"""`aegaeon run`: compose a configuration with Hydra and run it, once or as a resumable sweep.

A job writes its own directory (runs/<experiment>/<configuration hash>); a job whose directory holds
a finished run is skipped. When all jobs are done, the process that started them logs the runs to
MLflow and reports. A failed job is recorded and the sweep goes on.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress

from aegaeon import sweep
from aegaeon.config import Config, from_hydra, register
from aegaeon.errors import UserError
from aegaeon.experiment import Plan, Result, Row, plan, run
from aegaeon.results.config_hash import config_hash
from aegaeon.results.record import open_run
from aegaeon.results.store import finished

ROOT = Path(__file__).resolve().parents[1]
_BAR_FROM_REQUESTS = 20_000

register()


def resolve(path: str) -> Path:
    """Return a configured path; relative ones start at the project's root."""
    return ROOT / path


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def _job(cfg: DictConfig) -> None:
    """Run one composed configuration and leave a note for the process that started the sweep."""
    started = time.perf_counter()
    note: dict[str, Any] = {"job": str(OmegaConf.to_container(cfg)["name"]), "status": "failed"}
    try:
        config = from_hydra(cfg)
        runs_root = resolve(config.paths.runs)
        settings = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(settings, dict)
        key = config_hash({str(k): v for k, v in settings.items()})
        note |= {"job": config.name, "key": key, "runs": str(runs_root), "label": label(config)}
        note["tracking"] = config.tracking.uri
        if finished(runs_root, config.name, key):
            note["status"] = "skipped"
        else:
            note["row"] = _execute(config, {str(k): v for k, v in settings.items()}, runs_root)
            note["status"] = "finished"
    except UserError as error:
        note |= {"error": str(error), "user": True}
    except Exception as error:
        note |= {"error": f"{type(error).__name__}: {error}", "user": False}
    note["seconds"] = time.perf_counter() - started
    sweep.leave(note)


def label(config: Config) -> str:
    """Return a short name of a run for people."""
    rate = getattr(config.workload, "rate_rps", None)
    load = config.workload.name if rate is None else f"{rate:g} req/s"
    return f"{config.system.name}, {config.models.count} models, {load}, seed {config.seed}"


def _execute(config: Config, settings: dict[str, Any], runs_root: Path) -> Row:
    planned = plan(config)
    sweep_id = sweep.current()
    with open_run(runs_root, config.name, settings, sweep_id=sweep_id) as record:
        result = _with_bar(planned)
        for name, table in result.tables.items():
            record.write(name, table)
        return record.finish(result.row)


def _with_bar(planned: Plan) -> Result:
    total = len(planned.requests)
    if total < _BAR_FROM_REQUESTS or not sys.stderr.isatty():
        return run(planned)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("requests", total=total)
        return run(planned, lambda done: progress.update(task, completed=done))


def main(argv: list[str] | None = None) -> int:
    """Run `argv` (default: the command line's) as Hydra overrides; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    sys.argv = ["aegaeon run", *arguments]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    many = bool({"-m", "--multirun"} & set(arguments))
    total = sweep.sweep_size(arguments, ROOT / "conf") if many else None
    with sweep.begin(many, total) as current:
        _job()
        return current.close()


if __name__ == "__main__":
    sys.exit(main())
