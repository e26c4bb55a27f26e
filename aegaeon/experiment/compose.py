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
from hydra.plugins.completion_plugin import DefaultCompletionPlugin
from omegaconf import DictConfig

from aegaeon.experiment.config import Config, from_hydra
from aegaeon.experiment.refusals import translated
from aegaeon.paths import CONF


def composed(overrides: Sequence[str] = ()) -> Config:
    """Return the typed configuration; raises UserError for overrides that do not fit."""
    with translated():
        cfg = compose_raw(overrides)
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


def completions(word: str) -> list[str]:
    """Return the groups, choices and keys that a word of the command line can go on with."""
    with _configuration_folder() as loader:
        found: list[str] = DefaultCompletionPlugin(loader)._query("config", word)
    return [text for text in found if "base_" not in text]


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
