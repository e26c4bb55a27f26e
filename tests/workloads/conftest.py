"""Small models for the workload tests."""

from collections.abc import Callable

import pytest

from aegaeon.core import ModelSpec
from workloads import expand_market

MakeMarket = Callable[..., tuple[ModelSpec, ...]]


def spec(name: str, max_len: int = 32768) -> ModelSpec:
    return ModelSpec(name, name, 7e9, 32, 4096, 11008, 32, 32, 128, max_len)


@pytest.fixture(scope="session")
def make_market() -> MakeMarket:
    """Return a function of (count, max_len) that makes a market of one type."""
    return lambda count, max_len=32768: expand_market([(spec("a", max_len), 1)], count)
