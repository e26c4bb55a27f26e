"""Commands run within the test, by click's runner."""

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from aegaeon.cli import cli


@pytest.fixture
def aegaeon() -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(cli, list(arguments), prog_name="aegaeon")
