"""Instances of tiny models, driven by a script or by real policies."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aegaeon.core import DeviceSpec, Idle, InstanceSpec, Outcome, Request, Stage, Work

# Spinning worker threads make tiny steps many times slower on a shared machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

KV_BYTES = 1 << 20
DEVICE = DeviceSpec("cpu", 1e9, 1e9, 1e9, 1e9)


@pytest.fixture(scope="session")
def node() -> Iterator[Any]:
    pytest.importorskip("vllm")
    from tests.support.tiny_node import TinyNode

    made = TinyNode()
    yield made
    made.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@dataclass
class Machine:
    """A device with all tiny models on it, and the clock of the run."""

    pool: Any
    engines: dict[str, Any]
    began: float = field(default_factory=time.perf_counter)

    def clock(self) -> float:
        return time.perf_counter() - self.began

    def instance(self, scheduler, sink, stage=Stage.FULL, **spec: Any) -> Any:
        from aegaeon.live.instance.instance import LiveInstance

        described = InstanceSpec(0, stage, DEVICE, KV_BYTES, 1e9, weight_slots=2, **spec)
        return LiveInstance(described, scheduler, self.pool, self.engines, sink, self.clock)

    def alone(self, request) -> list[int]:
        """Return what the request's model gives when nothing else runs."""
        engine = self.engines[request.spec.model]
        self.pool.activate(request.spec.model)
        engine.add("alone", [*request.prompt, *request.generated], request.params)
        tokens: list[int] = []
        while engine.requests:
            tokens += [t for o in engine.step(["alone"]).outputs for t in o.token_ids]
        return tokens


@pytest.fixture(scope="session")
def machines(node, models) -> tuple[Machine, Machine]:
    pools = [node.pool(KV_BYTES) for _ in range(2)]
    return tuple([Machine(pool, node.engines(pool, models)) for pool in pools])


@pytest.fixture(scope="session")
def machine(machines) -> Machine:
    return machines[0]


@pytest.fixture
def crowded(models) -> Iterator[Machine]:
    """Two models of one KV shape on a node whose host pool holds the KV of one of them."""
    pytest.importorskip("vllm")
    from tests.support.tiny_node import ZOO, TinyNode

    node = TinyNode(slabs=1)
    pool = node.pool(KV_BYTES)
    yield Machine(pool, node.engines(pool, models, ZOO[:2]))
    node.close()


@dataclass
class Script:
    """A scheduler that does what it was told, then idles; notes what it hears."""

    works: list[Work | Callable[[], Work]] = field(default_factory=list)
    cut: bool = False
    added: list[Request] = field(default_factory=list)
    outcomes: list[tuple[Work, Outcome]] = field(default_factory=list)
    cancelled: list[Request] = field(default_factory=list)

    def add(self, request: Request, now: float) -> bool:
        self.added.append(request)
        return self.cut

    def next_work(self, now: float) -> Work:
        return self.works.pop(0) if self.works else Idle()

    def record(self, work: Work, outcome: Outcome, now: float) -> None:
        self.outcomes.append((work, outcome))

    def cancel(self, request: Request, now: float) -> None:
        self.cancelled.append(request)


@pytest.fixture
def script() -> Script:
    return Script()


class Events(list[Any]):
    """Collects events; the sink of an instance."""

    def tokens(self, request: int) -> list[int]:
        from aegaeon.live.events import Tokens

        mine = [e for e in self if isinstance(e, Tokens) and e.request == request]
        return [t for e in mine for t in e.output.token_ids]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self if isinstance(event, kind)]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def make(request) -> Callable[..., Any]:
    """Make a live request of `n` prompt tokens that asks for `out`."""
    from aegaeon.live.events import LiveRequest
    from aegaeon.live.tiny import GREEDY

    def build(ident: int, model: str = "qwen-a", n: int = 20, out: int = 12) -> Any:
        prompt = tuple([(31 * ident + 7 * j) % 499 + 1 for j in range(n)])
        spec = Request(ident, model, 0.0, n)
        return LiveRequest(spec, prompt, {**GREEDY, "max_tokens": out}, due=out)

    return build
