"""Fixtures: a folder of made-up stored tables."""

from pathlib import Path

import pytest
from synthetic_bench import write_bench
from synthetic_details import write_details
from synthetic_fidelity import write_fidelity
from synthetic_tables import write_all


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_all(tmp_path_factory.mktemp("stored"))
    write_details(folder)
    write_fidelity(folder)
    write_bench(folder)
    return folder
