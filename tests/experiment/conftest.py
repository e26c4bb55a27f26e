"""Composing configurations as `aegaeon run` does, without this machine's own settings."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

import aegaeon.experiment.config  # noqa: F401  (registers the schemas)

CONF = Path(__file__).parents[2] / "conf"


class Composer:
    """From overrides to the composed configuration; `default` is that of no overrides."""

    def __init__(self) -> None:
        self.default = self()

    def __call__(self, *overrides: str) -> DictConfig:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", overrides=["~local", *overrides])

    def part(self, group: str, choice: str) -> DictConfig:
        """Return one choice of a group that is not at the top level."""
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(f"{group}/{choice}")[group]


@pytest.fixture(scope="session")
def composed() -> Composer:
    return Composer()
