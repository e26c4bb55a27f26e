"""Composing configurations as `aegaeon run` does, without this machine's own settings."""

import pytest
from omegaconf import DictConfig

from aegaeon.experiment.compose import compose_raw


class Composer:
    """From overrides to the composed configuration; `default` is that of no overrides."""

    def __init__(self) -> None:
        self.default = self()

    def __call__(self, *overrides: str) -> DictConfig:
        return compose_raw(["~local", *overrides])

    def part(self, group: str, choice: str) -> DictConfig:
        """Return one choice of a group that is not at the top level."""
        return compose_raw(name=f"{group}/{choice}")[group]


@pytest.fixture(scope="session")
def composed() -> Composer:
    return Composer()
