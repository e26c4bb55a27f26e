"""The overrides of a run: what its settings change of the experiment's own file.

An experiment's own file is `conf/experiment/<name>.yaml` with the configuration's defaults; a name
without a file changes the defaults. Values that the file sweeps over are its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

from hydra.conf import HydraConf
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from aegaeon.errors import UserError, first_line
from aegaeon.experiment.compose import compose_raw, parse
from aegaeon.experiment.sweep import parameters, values_of
from aegaeon.paths import CONF
from aegaeon.results.variant import OWN_COLUMN, differences, written

Choices = tuple[tuple[str, str | None], ...]
# Arguments that change no setting of a run.
_IDLE = ("experiment", "seeds", "paths", "tracking")
# What a name without a file may vary and still be one set of curves.
_FREE = {"system": None, "models.count": None, "workload.rate_rps": None}


class Origin(NamedTuple):
    """Where a configuration was composed from: folders to search first, and its file.

    `local` tells whether the file takes settings of this machine.
    """

    folders: tuple[str, ...] = ()
    file: str = "config"
    local: bool = True


def overrides(settings: Mapping[str, Any], hydra: HydraConf) -> str:
    """Return what a run's settings change of its experiment's file, as arguments of `aegaeon run`.

    `hydra` is Hydra's own part of the composed configuration. A choice of a group is one override;
    keys follow that differ from the choice. Raises `UserError` if the file cannot be composed.
    """
    sources = [s.path for s in hydra.runtime.config_sources if s.schema == "file"]
    if _as_filed(hydra, [*sources, CONF]):
        return ""
    chosen = _groups(hydra.runtime.choices)
    folders = tuple(path for path in sources if path != str(CONF))
    origin = Origin(folders, hydra.job.config_name or "config", "local" in hydra.runtime.choices)
    try:
        return _overrides(settings, chosen, origin)
    except HydraException as error:
        why = first_line(error)
        raise UserError(f"experiment: its own file cannot be composed: {why}") from error


def _as_filed(hydra: HydraConf, places: Iterable[str | Path]) -> bool:
    """Return whether arguments alone show that a run is its experiment's own; saves composing.

    `places` are the folders that may hold settings of this machine.
    """
    of_machine = any(file for place in places for file in (Path(place) / "local").glob("*.yaml"))
    if of_machine or not hydra.runtime.choices.get("experiment"):
        return False
    if any("sweeper.params" in text for text in hydra.overrides.hydra):
        return False
    swept = {key: values_of(o) for key, o in parameters(cast("DictConfig", hydra)).items()}
    for override in parse(hydra.overrides.task):
        key, value = override.get_key_element(), override.get_value_element_as_str()
        listed = "." not in key and value in swept.get(key, ())
        idle = key.partition(".")[0] in _IDLE
        if not (idle or listed or (key in swept and key in OWN_COLUMN)):
            return False
    return True


def _overrides(settings: Mapping[str, Any], chosen: Mapping[str, Any], origin: Origin) -> str:
    name, experiment = settings["name"], chosen.get("experiment")
    own = _composed(origin, experiment, ())
    swept = parameters(own.hydra) if experiment else _FREE
    # A group in another choice comes before the groups inside of it, as in device@hardware.device.
    choices: Choices = ()
    for inner in (False, True):
        now = _groups(_composed(origin, experiment, choices).hydra.runtime.choices)
        other = {g: c for g, c in chosen.items() if ("@" in g) == inner and now.get(g) != c}
        choices += tuple(other.items())
    base = _settings(_composed(origin, experiment, choices))
    found = [_text(g, c) for g, c in choices if not _is_own(g, c, swept)]
    if own.name != name and not (CONF / "experiment" / f"{name}.yaml").exists():
        found += [_text("experiment", experiment)] if experiment else []
        base = {**base, "name": name}
    return written([*sorted(found), *differences(settings, base, swept)])


@lru_cache(maxsize=64)
def _composed(origin: Origin, experiment: str | None, choices: Choices) -> DictConfig:
    """Return an experiment's file composed with choices, without the settings of this machine."""
    places = [f"file://{folder}" for folder in origin.folders]
    given = [f"hydra.searchpath={places}"] if places else []
    given += ["~local"] if origin.local else []
    given += [f"experiment={experiment}"] if experiment else []
    return compose_raw([*given, *[_text(*pair) for pair in choices]], origin.file, hydra=True)


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """Return what the runs of a composed configuration share, as plain values."""
    parts = {key: cfg[key] for key in cfg if key not in ("hydra", "seeds")}
    settings: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(parts), resolve=True)  # type: ignore[assignment]
    return settings


def _groups(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return the choices of groups that may differ between runs of an experiment."""
    return {k: v for k, v in choices.items() if k != "local" and not k.startswith("hydra/")}


def _is_own(group: str, choice: str | None, swept: Mapping[str, Any]) -> bool:
    """Return whether an experiment sweeps over a group and lists the choice; `None` lists all."""
    return group in swept and (swept[group] is None or choice in values_of(swept[group]))


def _text(group: str, choice: str | None) -> str:
    return f"{group}={'null' if choice is None else choice}"
