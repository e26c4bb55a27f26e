"""Copies KV blocks between one rank's arena and its part of the node's host pool.

What to copy is `KvStore`'s decision, made once for all ranks of an instance; each mover obeys. The
copies themselves are `kernels`', which knows what is fastest on each kind of device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

import kernels
from aegaeon.live.memory.device import Device, StreamEvent
from aegaeon.live.memory.kv_arena import Ids, KvLayout
from aegaeon.live.memory.kv_pool import KvPool


@dataclass(frozen=True, slots=True)
class _Cache:
    layout: kernels.KvLayout
    views: list[torch.Tensor]


class KvMover:
    """Moves rank `rank`'s part of blocks on side streams; `arena` is its device's KV bytes.

    A host block holds every rank's part of a KV block, one after the other, so offsets are the same
    on all ranks and nothing but the decision to move has to be shared.
    """

    def __init__(self, device: Device, arena: torch.Tensor, pool: KvPool, rank: int = 0) -> None:
        self._device = device
        self._arena = arena
        self._pool = pool
        self._rank = rank
        self._out = device.stream()
        self._in = device.stream()
        self._caches: dict[str, _Cache] = {}

    def add(self, engine: str, layout: KvLayout) -> None:
        """Note where an engine's blocks lie in the arena."""
        views = layout.views(self._arena)
        self._caches[engine] = _Cache(kernels.KvLayout.of(views), views)

    def remove(self, engine: str) -> None:
        """Forget an engine, if it is known."""
        self._caches.pop(engine, None)

    def out(self, engine: str, blocks: Ids, offsets: Ids) -> StreamEvent:
        """Copy blocks to the host, what the compute stream wrote so far included."""
        self._out.wait(self._device.compute().record())
        self._copy(engine, blocks, offsets, out=True)
        return self._out.record()

    def back(self, engine: str, blocks: Ids, offsets: Ids, zero: Ids) -> StreamEvent:
        """Copy blocks from the host, and clear the `zero` ones, before later compute work.

        The event says when the host's bytes have been read.
        """
        # Waiting for the way out covers both: bytes that had to leave the arena first, and host
        # blocks that are still being written. Evicting may have moved nothing, but then it is free.
        evicted = self._out.record()
        compute = self._device.compute()
        self._in.wait(compute.record())
        self._in.wait(evicted)
        self._copy(engine, blocks, offsets, out=False)
        read = self._in.record()
        compute.wait(read)
        if zero.size:
            cache = self._caches[engine]
            compute.launch(partial(kernels.clear, cache.layout, cache.views, zero))
        return read

    def settle(self) -> None:
        """Wait until every copy started so far is complete."""
        self._out.record().synchronize()
        self._in.record().synchronize()

    def _copy(self, engine: str, blocks: Ids, offsets: Ids, out: bool) -> None:
        cache = self._caches[engine]
        size = cache.layout.block_bytes
        stream, copy = (self._out, kernels.gather) if out else (self._in, kernels.scatter)
        slabs, within = np.divmod(offsets, self._pool.slab_bytes)
        rows = within // size + self._rank
        for slab in np.bincount(slabs).nonzero()[0].tolist():
            there = slabs == slab
            move = (blocks[there], self._pool.rows(slab, size), rows[there])
            stream.launch(partial(copy, cache.layout, cache.views, *move))
