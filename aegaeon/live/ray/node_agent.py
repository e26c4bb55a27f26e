"""One actor per node, whose only task is to own the shared memory of the node's instances.

The agent outlives the instances, so no hand-over depends on a living instance.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aegaeon.core import ModelSpec
from aegaeon.errors import UserError
from aegaeon.live.events import NO_BLOCK, HostKv
from aegaeon.live.memory.cleanup import remove_leftovers
from aegaeon.live.memory.kv_pool import KvPool, in_flight
from aegaeon.live.memory.shared import SharedDirectory
from aegaeon.live.options import LiveOptions
from aegaeon.live.preflight.checkpoints import check_checkpoint
from aegaeon.live.preflight.checks import slab_bytes
from aegaeon.live.ray.reaper import end
from aegaeon.live.tiny import tiny_model
from aegaeon.runlog import PoolSample

SAMPLE_S = 0.05
_DEATH_S = 20.0


class NodeAgent:
    """Reserves a node's host KV pool and finds or builds the models' checkpoints."""

    def __init__(self, options: LiveOptions) -> None:
        self._options = options
        self._shared: SharedDirectory
        self._pool: KvPool
        self._memory = ExitStack()
        self._samples: list[PoolSample] = []
        self._ended = threading.Event()
        self._closed = threading.Event()
        self._sampler: threading.Thread | None = None

    def prepare(self, models: Sequence[ModelSpec]) -> tuple[str, dict[str, str]]:
        """Reserve memory; return the shared directory and each model's checkpoint folder.

        Models of a type without a checkpoint are random; model i is the same on every node. Raises
        UserError for an unusable checkpoint, and for too little memory.
        """
        options = self._options
        for spec in models:
            if spec.type in options.checkpoints:
                check_checkpoint(spec, options.checkpoints[spec.type])
        remove_leftovers()
        self._shared = self._memory.enter_context(SharedDirectory.create("node"))
        self._pool = KvPool.create(self._shared, slab_bytes(models, options), options.slabs)
        self._memory.callback(self._pool.close)
        folder = self._shared.path / "checkpoints"
        folder.mkdir()
        paths = {}
        for i, spec in enumerate(models):
            given = options.checkpoints.get(spec.type)
            made = tiny_model(spec, i).build(folder) if given is None else Path(given)
            paths[spec.name] = str(made)
        return str(self._shared.path), paths

    def discard(self, kv: HostKv, request: int) -> None:
        """Free a request's KV that no instance of this node will load."""
        self._pool.discard(kv.offsets, in_flight(request))

    def read(self, kv: HostKv, request: int) -> npt.NDArray[np.uint8]:
        """Return a request's KV, uint8 [blocks, bytes of a block], and free the blocks."""
        blocks = self._pool.read(kv.offsets, kv.block_bytes)
        self.discard(kv, request)
        return blocks

    def write(self, kv: HostKv, request: int, blocks: npt.NDArray[np.uint8]) -> HostKv | None:
        """Write a request's KV from another node into this pool; None if the pool has no room.

        `blocks` is uint8 [blocks, bytes of a block], as the other node's agent has read them.
        """
        try:
            offsets = iter(self._pool.write(blocks, in_flight(request)))
        except UserError:
            return None
        groups = [[at if at == NO_BLOCK else next(offsets) for at in g] for g in kv.groups]
        return replace(kv, groups=tuple([tuple(group) for group in groups]))

    def reap(self, process: tuple[int, int] | None, holders: Sequence[int]) -> int:
        """Kill an instance's processes (`process`: id and start time), then free KV of `holders`.

        Returns the number of blocks freed. Raises TimeoutError if a process does not die in 20 s.
        """
        if process is not None:
            end(process, _DEATH_S)
        return self._pool.release(holders)

    def lifetime(self) -> None:
        """Return when the agent is closed; for a waiting caller, the agent's death is an error."""
        self._closed.wait()

    def watch(self, node: str, began: float) -> None:
        """Sample the host KV pool until `samples` is called.

        `began` is the run's time 0 on this machine's monotonic clock.
        """
        self._sampler = threading.Thread(target=self._sample, args=(node, began), daemon=True)
        self._sampler.start()

    def samples(self) -> list[PoolSample]:
        """Stop sampling; return one sample per block size and SAMPLE_S seconds."""
        self._ended.set()
        if self._sampler is not None:
            self._sampler.join()
        return self._samples

    def used_bytes(self) -> int:
        """Return the bytes of KV that the host pool holds."""
        return sum([use.used for use in self._pool.stats().values()])

    def close(self) -> None:
        """Remove the shared memory."""
        self._closed.set()
        self.samples()
        self._memory.close()

    def _sample(self, node: str, began: float) -> None:
        self._ended.wait(max(0.0, began - time.perf_counter()))
        while not self._ended.wait(SAMPLE_S):
            now = time.perf_counter() - began
            self._samples += [
                PoolSample(now, node, use.block_bytes, use.used, use.allocated)
                for use in self._pool.stats().values()
            ]
