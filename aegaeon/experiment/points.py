"""The points of an experiment: the settings of every run that its file asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

import aegaeon.experiment.config  # noqa: F401  (registers the schemas)
from aegaeon.errors import UserError
from aegaeon.paths import CONF

Settings: TypeAlias = dict[str, Any]


class Axis(NamedTuple):
    """One swept key or group, and its values as a command line gives them."""

    key: str
    values: tuple[str, ...]

    @property
    def overrides(self) -> list[str]:
        """An override per value."""
        return [f"{self.key}={value}" for value in self.values]


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
    axes = sweep_axes(file)
    plain = [axis.overrides for axis in axes if not _is_group(axis.key)]
    for cfg in _compositions(experiment, file, [axis for axis in axes if _is_group(axis.key)]):
        for overrides in product(*plain):
            for override in _parsed(overrides):
                OmegaConf.update(cfg, override.key_or_group, override.value())
            settings, seeds = settings_and_seeds(cfg)
            yield from ({**settings, "seed": seed} for seed in seeds)


def sweep_axes(file: Mapping[str, Any]) -> list[Axis]:
    """Return what the file of an experiment sweeps over; empty where it is one configuration."""
    swept = file.get("hydra", {}).get("sweeper", {}).get("params", {})
    return [_axis(override) for override in _parsed([f"{k}={v}" for k, v in swept.items()])]


def _compositions(
    experiment: str, file: Mapping[str, Any], groups: Sequence[Axis]
) -> Iterator[DictConfig]:
    """Yield the configuration of each combination of choices.

    Composing takes most of the time. A system's part of a configuration is the same in every
    experiment that sets no key of it, so it is composed once.
    """
    apart = [axis for axis in groups if axis.key == "system" and "system" not in file]
    together = [axis.overrides for axis in groups if axis not in apart]
    for choices in product(*together):
        cfg = _compose(f"experiment={experiment}", *choices)
        for system in (value for axis in apart for value in axis.values):
            cfg.system = _system(system)
            yield cfg
        if not apart:
            yield cfg


@cache
def _system(choice: str) -> DictConfig:
    part: DictConfig = _compose(f"system={choice}").system
    return part


def _compose(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=["~local", *overrides])


def _experiment_file(experiment: str) -> Mapping[str, Any]:
    path = CONF / "experiment" / f"{experiment}.yaml"
    if not path.exists():
        raise UserError(f"experiment={experiment}: expected a file {path.name} in {path.parent}")
    content: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def _is_group(key: str) -> bool:
    return "@" in key or (CONF / key).is_dir()


def _axis(override: Override) -> Axis:
    key = override.get_key_element()
    if not override.is_sweep_override():
        return Axis(key, (override.get_value_element_as_str(),))
    return Axis(key, tuple(override.sweep_string_iterator()))


def _parsed(texts: Sequence[str]) -> list[Override]:
    return list(OverridesParser.create().parse_overrides(list(texts)))
