"""Configurations composed outside of a run: the only place that calls Hydra's `compose`.

`aegaeon run` composes by Hydra's command line (aegaeon/experiment/hydra_job.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from aegaeon.errors import UserError, first_line
from aegaeon.experiment.config import Config, from_hydra
from aegaeon.paths import CONF


def composed(overrides: Sequence[str] = ()) -> Config:
    """Return the typed configuration; raises UserError for overrides that do not fit."""
    try:
        cfg = compose_raw(overrides)
    except HydraException as error:
        raise UserError(f"configuration: {first_line(error)}") from error
    return from_hydra(cfg)


def compose_raw(
    overrides: Sequence[str] = (), name: str = "config", hydra: bool = False
) -> DictConfig:
    """Return Hydra's configuration of `overrides`, with the node `hydra` if asked for.

    Raises HydraException for an override that does not fit.
    """
    with _configuration_folder():
        return compose(name, overrides=list(overrides), return_hydra_config=hydra)


def parse(overrides: Iterable[str]) -> list[Override]:
    """Return the parsed overrides; their sweeps can be listed. Raises HydraException."""
    with _configuration_folder() as loader:
        return OverridesParser.create(loader).parse_overrides(list(overrides))


@contextmanager
def _configuration_folder() -> Iterator[ConfigLoader]:
    # Inside of a job, Hydra is in use already and refuses a second start.
    in_use = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield GlobalHydra.instance().config_loader()
    finally:
        GlobalHydra.instance().hydra = in_use
