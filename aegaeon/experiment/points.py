"""The points of an experiment: the settings of every run that its file asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, TypeAlias

import yaml
from omegaconf import DictConfig, OmegaConf

from aegaeon.errors import UserError
from aegaeon.experiment.compose import compose_raw, parse
from aegaeon.experiment.sweep import swept_by
from aegaeon.paths import CONF

Settings: TypeAlias = dict[str, Any]


def settings_and_seeds(cfg: DictConfig) -> tuple[Settings, list[int]]:
    """Split a composed configuration into what its runs share, as plain values, and their seeds."""
    settings: Settings = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    return settings, settings.pop("seeds")


def points(experiment: str) -> Iterator[Settings]:
    """Yield what `config_hash` takes for each run of an experiment in `conf/`.

    The settings of this machine (`conf/local`) are left out. Raises `UserError` if there is no such
    file in `conf/experiment`.
    """
    file = _experiment_file(experiment)
    swept = {key: [f"{key}={v}" for v in values] for key, values in swept_by(experiment).items()}
    plain = [parse(overrides) for key, overrides in swept.items() if not _is_group(key)]
    choices = {key: overrides for key, overrides in swept.items() if _is_group(key)}
    for cfg in _compositions(experiment, file, choices):
        for overrides in product(*plain):
            for override in overrides:
                OmegaConf.update(cfg, override.key_or_group, override.value())
            settings, seeds = settings_and_seeds(cfg)
            yield from ({**settings, "seed": seed} for seed in seeds)


def _compositions(
    experiment: str, file: Mapping[str, Any], choices: Mapping[str, Sequence[str]]
) -> Iterator[DictConfig]:
    """Yield the configuration of each combination of choices.

    Composing takes most of the time. A system's part of a configuration is the same in every
    experiment that sets no key of it, so it is composed once.
    """
    apart = [] if "system" in file else choices.get("system", [])
    together = [overrides for overrides in choices.values() if overrides is not apart]
    for chosen in product(*together):
        cfg = compose_raw(["~local", f"experiment={experiment}", *chosen])
        for override in apart:
            cfg.system = _system(override)
            yield cfg
        if not apart:
            yield cfg


@cache
def _system(override: str) -> DictConfig:
    part: DictConfig = compose_raw(["~local", override]).system
    return part


def _experiment_file(experiment: str) -> Mapping[str, Any]:
    path = CONF / "experiment" / f"{experiment}.yaml"
    if not path.exists():
        raise UserError(f"experiment={experiment}: expected a file {path.name} in {path.parent}")
    content: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def _is_group(key: str) -> bool:
    return "@" in key or (CONF / key).is_dir()
