"""What of Hydra's own options `aegaeon run` takes, and the refusal of the others."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

# Hydra has no public parser of its own command line.
from hydra._internal.utils import get_args_parser
from hydra.conf import HydraConf
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from aegaeon.errors import UserError
from aegaeon.experiment.refusals import no_such_key, refuse_unknown_keys
from aegaeon.paths import CONF

_LAUNCHERS = ("BasicLauncher", "JoblibLauncher")
_MOST_JOBS = 256
_FULL_ERROR = "HYDRA_FULL_ERROR"


def parsed(arguments: Sequence[str]) -> Namespace:
    """Return the parsed arguments of `aegaeon run`; raises UserError for what Hydra lacks."""
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    found: Namespace = parser.parse_args(arguments)
    if found.shell_completion:
        raise UserError(
            "--shell-completion: your terminal completes every command of aegaeon after "
            '`eval "$(_AEGAEON_COMPLETE=bash_source aegaeon)"` (zsh_source, fish_source)'
        )
    modes = {"--run": found.run, "--multirun": found.multirun, "--cfg": found.cfg}
    asked = [flag for flag, value in {**modes, "--info": found.info}.items() if value]
    if len(asked) > 1:
        raise UserError(f"{asked[1]}: cannot be combined with {asked[0]}; leave one of them out")
    if found.resolve and not (found.cfg or found.help):
        raise UserError("--resolve: shows interpolations resolved; add --cfg job")
    if found.config_dir and not Path(found.config_dir).is_dir():
        raise UserError(f"--config-dir: there is no folder {found.config_dir}; give its path")
    if found.config_dir:
        _refuse_hidden("--config-dir", Path(found.config_dir))
    return found


@contextmanager
def full_errors() -> Iterator[None]:
    """Let Hydra raise its errors within the block, where it would print them and exit."""
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FULL_ERROR]
        else:
            os.environ[_FULL_ERROR] = before


def check_override(override: Override) -> None:
    """Raise UserError for an override that Hydra would take in another sense, or not name."""
    key, text = override.key_or_group, override.input_line
    if not key:
        raise UserError(f"{text}: expected KEY=VALUE; write the key before `=`")
    if key == "hydra.mode":
        raise UserError("hydra.mode: leave the key out; -m makes a sweep, and --run a single run")
    known = [f.name for f in fields(HydraConf)]
    if key.startswith("hydra.") and override.is_add() and key.split(".")[1] not in known:
        raise UserError(no_such_key(".".join(key.split(".")[:2]), known))
    is_group = "/" in key or override.package is not None or (CONF / key).is_dir()
    if is_group and not override.is_delete() and not override.is_sweep_override():
        value = override.value()
        optional = key in ("experiment", "setup", "local") and value is None
        if not isinstance(value, str) and not (optional or isinstance(value, dict)):
            raise UserError(f"{text}: expected one choice; `aegaeon run --help` lists the choices")


def check_hydra(cfg: DictConfig) -> None:
    """Raise UserError for settings of `hydra` that no sweep of this project can follow."""
    launcher, sweeper = cfg.hydra.launcher, cfg.hydra.sweeper
    name = launcher._target_.rpartition(".")[2]
    if name not in _LAUNCHERS:
        raise UserError(
            f"hydra/launcher: {name} starts jobs on machines that cannot report back; choose "
            "joblib (a process per core) or basic (one process)"
        )
    refuse_unknown_keys(launcher, "hydra.launcher")
    jobs = launcher.get("n_jobs", 1)
    if not jobs or not -1 <= jobs <= _MOST_JOBS:
        raise UserError(
            f"hydra.launcher.n_jobs: expected a number of processes up to {_MOST_JOBS}, or -1 for "
            f"one per core, got {jobs}"
        )
    batch = sweeper.get("max_batch_size")
    if batch is not None and batch < 1:
        raise UserError(f"hydra.sweeper.max_batch_size: must be at least 1, got {batch}")
    if str(sweeper.get("direction", "maximize")).rpartition(".")[2] != "maximize":
        raise UserError(
            "hydra.sweeper.direction: the objective is slo_attainment, and a refused point counts "
            "as 0; add hydra.sweeper.direction=maximize"
        )
    for place in cfg.hydra.searchpath:
        if "://" not in place or place.startswith("file://"):
            _refuse_hidden("hydra.searchpath", Path(place.removeprefix("file://")))
    if cfg.hydra.job.chdir:
        raise UserError("hydra.job.chdir: must be false, as paths start at the working directory")


def _refuse_hidden(key: str, folder: Path) -> None:
    """Refuse a user's file that Hydra would never read: conf/ comes first and has its name."""
    if folder.resolve() == CONF.resolve():
        return
    for shipped in sorted(CONF.rglob("*.yaml")):
        name = shipped.relative_to(CONF)
        if (folder / name).is_file():
            raise UserError(
                f"{key}: {folder / name} would not be read, as conf/ has a file {name} "
                "and comes first; give your file another name, and choose that name"
            )


def listed_sweeps(cfg: DictConfig) -> bool:
    """Return whether the sweeper runs every listed value, rather than choose points itself."""
    return str(cfg.hydra.sweeper._target_).endswith("BasicSweeper")


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; `aegaeon run --help` lists the options")
