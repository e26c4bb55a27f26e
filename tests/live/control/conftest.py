"""A controller on fakes."""

import pytest

from tests.support.fake_transport import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
