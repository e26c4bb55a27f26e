"""Tensor-parallel instances of tiny models, each in a process of its own."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def node() -> Iterator[Any]:
    pytest.importorskip("vllm")
    from tests.support.tiny_node import TinyNode

    made = TinyNode()
    yield made
    made.close()


@pytest.fixture(scope="session")
def models() -> list[Any]:
    """Two architectures, two shapes of KV blocks, in 32 bits: a sum's order decides no token."""
    from aegaeon.live.tiny import TinyModel

    return [
        TinyModel("qwen", "qwen2", seed=1),
        TinyModel("llama", "llama", layers=3, seed=3),
    ]


@pytest.fixture(scope="session")
def folder(tmp_path_factory, models) -> Path:
    made: Path = tmp_path_factory.mktemp("models")
    for model in models:
        model.build(made)
    return made


@pytest.fixture(scope="module")
def start(node, models, folder) -> Iterator[Callable[..., Any]]:
    """Start an instance of some ranks; all end with the module."""
    from tests.support.tp_instance import Remote

    started = []

    def make(size: int, given: Sequence[Any] = models) -> Any:
        started.append(Remote(size, str(node.shared.path), given, str(folder)))
        return started[-1]

    yield make
    for remote in started:
        remote.end()
