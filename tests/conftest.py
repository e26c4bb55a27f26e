"""Fixtures for the tests of several packages."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aegaeon.cli import cli
from tests.support.synthetic_bench import write_bench
from tests.support.synthetic_details import write_details
from tests.support.synthetic_fidelity import write_fidelity
from tests.support.synthetic_tables import write_all


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of public traces and measurements; skip the test without the folder."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("AEGAEON_DATA", default))
    if not folder.is_dir():
        pytest.skip("public data folder absent; set AEGAEON_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of made-up stored tables."""
    folder = write_all(tmp_path_factory.mktemp("stored"))
    write_details(folder)
    write_fidelity(folder)
    write_bench(folder)
    return folder


@pytest.fixture
def aegaeon() -> Callable[..., Result]:
    """Return what runs a command within the test, by click's runner."""
    return lambda *arguments: CliRunner().invoke(cli, list(arguments), prog_name="aegaeon")
