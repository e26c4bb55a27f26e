"""A Ray actor with one device, which hosts a live instance and its scheduler in a thread.

Events leave in batches through one streaming call: a message per flush, never one per token.
"""

from __future__ import annotations

import gc
import importlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import ray

from aegaeon.core import Deployment, InstanceSpec, ModelSpec
from aegaeon.live.events import Event, LiveRequest
from aegaeon.live.instance.device_pool import DevicePool
from aegaeon.live.instance.instance import LiveInstance
from aegaeon.live.logs import write_output_to
from aegaeon.live.measure.probe import Probe, Round, Sample
from aegaeon.live.memory.device import open_device
from aegaeon.live.memory.kv_pool import KvPool
from aegaeon.live.memory.shared import SharedDirectory, start_time
from aegaeon.live.memory.weight_arena import slot_bytes_for
from aegaeon.live.memory.weight_cache import WeightCache
from aegaeon.live.options import LiveOptions
from aegaeon.live.preflight.checkpoints import DTYPES
from aegaeon.live.tp.group import RankError, RankGroup
from aegaeon.live.tp.messages import GRACE_S, RankPlan
from aegaeon.policy.interface import System

if TYPE_CHECKING:
    from aegaeon.live.vllm.model_engine import ModelEngine


@dataclass(frozen=True, slots=True)
class InstancePlan:
    """What an instance opens with.

    Attributes:
        shared: the node's shared directory.
        paths: each model's checkpoint folder on the node, by the model's name.
        holder: the number that marks the instance's KV blocks in the node's host pool.
    """

    spec: InstanceSpec
    models: tuple[ModelSpec, ...]
    shared: str
    paths: Mapping[str, str]
    options: LiveOptions
    holder: int = 1


class InstanceActor:
    """One device; all work on the device runs in one thread, as CUDA and OpenMP require."""

    def __init__(self, log: str) -> None:
        write_output_to(Path(log))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        # The slowest import starts now, to overlap with the building of the node's models.
        self._thread.submit(importlib.import_module, "aegaeon.live.vllm.model_engine")
        self._out: SimpleQueue[Sequence[Event] | BaseException | None] = SimpleQueue()
        self._instance: LiveInstance | None = None
        self._memory = ExitStack()

    def where(self) -> tuple[str, tuple[int, int | None]]:
        """Return (id of the actor's Ray node, (process id, start time of the process))."""
        process = (os.getpid(), start_time(os.getpid()))
        return str(ray.get_runtime_context().get_node_id()), process

    def now(self) -> float:
        """Return this machine's monotonic clock, in seconds."""
        return time.perf_counter()

    def open(self, plan: InstancePlan) -> None:
        """Make a model engine for every model."""
        self._thread.submit(self._open, plan).result()

    def measure(self, round_: Round) -> list[Sample]:
        """Measure one round, possibly while other instances of the run measure too."""
        return self._thread.submit(self._probe.measure, round_).result()

    def measured(self) -> None:
        """End the events of measurements, and exempt the engines from garbage collection."""
        self._out.put(None)
        # The engines' many lasting objects would make a collection interrupt steps for long.
        self._thread.submit(_freeze).result()

    def start(self, system: System, deployment: Deployment, began: float) -> None:
        """Start the scheduler; `began` is the run's time 0 on this machine's monotonic clock."""

        def clock() -> float:
            return time.perf_counter() - began

        scheduler = system.scheduler(deployment, self._plan.spec)
        self._instance = LiveInstance(
            self._plan.spec, scheduler, self._pool, self._engines, self._out.put, clock
        )
        self._thread.submit(self._run, self._instance)

    def accept(self, request: LiveRequest) -> None:
        """Take a request in; raise RuntimeError before `start`."""
        if self._instance is None:
            raise RuntimeError("a request came before the instance was started")
        self._instance.accept(request)

    def events(self) -> Iterator[Sequence[Event]]:
        """Yield batches of events until the instance stops; raise the error that stopped it."""
        while (item := self._out.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        """Let the instance finish its work item, then end the events."""
        if self._instance is not None:
            self._instance.stop()

    def close(self) -> None:
        """Stop the instance, and release its memory on the node."""
        self.stop()
        self._thread.submit(self._memory.close).result()

    def _open(self, plan: InstancePlan) -> None:
        self._plan, options = plan, plan.options
        device = open_device(options.device)
        shared = self._memory.enter_context(SharedDirectory.attach(plan.shared))
        host_kv = KvPool.attach(shared, device, holder=plan.holder)
        self._memory.callback(host_kv.close)
        sizes = _sizes(plan)
        ranks = RankGroup(
            RankPlan(plan.spec.tp, options.device, plan.shared, options.cache_bytes, **sizes),
            self._lost,
        )
        cache = WeightCache(shared, options.cache_bytes, device)
        self._pool = DevicePool(device, cache, host_kv, **sizes, ranks=ranks)
        self._memory.callback(self._pool.close)
        # The ranks' copies must end before the memory that they read and write is released.
        self._memory.callback(ranks.close)
        self._engines = {model.name: self._engine(model) for model in plan.models}
        self._probe = Probe(plan.spec, self._pool, self._engines, self._out.put)

    def _engine(self, model: ModelSpec) -> ModelEngine:
        from aegaeon.live.vllm.engine import ModelEngineOptions
        from aegaeon.live.vllm.model_engine import ModelEngine

        options = ModelEngineOptions(
            dtype=DTYPES.get(model.dtype_bytes, "auto"),
            max_model_len=model.max_len,
            block_size=self._plan.options.block_size,
        )
        return ModelEngine(model.name, Path(self._plan.paths[model.name]), self._pool, options)

    def _lost(self, error: RankError) -> None:
        """Report the death of a rank; after GRACE_S seconds end the process, which may hang."""
        self._out.put(error)
        time.sleep(GRACE_S)
        os._exit(1)

    def _run(self, instance: LiveInstance) -> None:
        try:
            instance.run()
        except BaseException as error:
            self._out.put(error)
            raise
        self._out.put(None)


def _sizes(plan: InstancePlan) -> dict[str, int]:
    """Return the memory that each of the instance's devices reserves: bytes and slots."""
    largest = max([model.weight_bytes for model in plan.models]) / plan.spec.tp
    return {
        "slot_bytes": slot_bytes_for(largest),
        "kv_bytes": int(plan.spec.kv_bytes),
        "weight_slots": plan.spec.weight_slots,
    }


def _freeze() -> None:
    gc.collect()
    gc.freeze()
