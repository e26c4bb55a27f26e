"""A controller on fakes."""

import pytest

from tests.support.fake_ports import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
