"""Fixtures: a folder of made-up stored tables."""

from pathlib import Path

import pytest
from synthetic_tables import write_all


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("stored"))
