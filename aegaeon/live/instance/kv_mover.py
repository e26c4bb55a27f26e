"""Copies KV blocks between one rank's arena and its part of the node's host pool.

`KvStore` decides what to copy, once for all ranks of an instance; the mover of each rank obeys.
`kernels` makes the copies: it has the fastest way for each kind of device.
"""

from __future__ import annotations

from functools import partial

import numpy as np

import kernels
from aegaeon.live.memory.device import Device, Stream, StreamEvent
from aegaeon.live.memory.kv_arena import Ids
from aegaeon.live.memory.kv_cache import KvCache
from aegaeon.live.memory.kv_pool import KvPool
from aegaeon.live.tp.messages import Move, MoveBack, MoveOut


class KvMover:
    """Moves rank `rank`'s part of KV blocks on two streams of `device`.

    A host block holds the parts of all ranks, one after the other. Host offsets are therefore the
    same on all ranks, and the ranks share nothing but the decision to move.
    """

    def __init__(self, device: Device, pool: KvPool, rank: int = 0) -> None:
        self._device = device
        self._pool = pool
        self._rank = rank
        self._out = device.stream()
        self._in = device.stream()
        self._caches: dict[str, KvCache] = {}

    def add(self, engine: str, cache: KvCache) -> None:
        """Note where an engine's blocks lie in the arena."""
        self._caches[engine] = cache

    def remove(self, engine: str) -> None:
        """Forget an engine, if it is known."""
        self._caches.pop(engine, None)

    def move(self, move: Move) -> StreamEvent:
        """Start a move; return an event that is done when all its bytes are copied."""
        match move:
            case MoveOut():
                return self._move_out(move)
            case MoveBack():
                return self._move_back(move)

    def settle(self) -> None:
        """Wait until every copy started so far is complete."""
        self._out.record().synchronize()
        self._in.record().synchronize()

    def _move_out(self, move: MoveOut) -> StreamEvent:
        """Copy blocks to the host, including what the compute stream has queued to write."""
        self._out.wait(self._device.compute().record())
        self._copy(self._out, move)
        return self._out.record()

    def _move_back(self, move: MoveBack) -> StreamEvent:
        """Copy blocks from the host, and clear the `zero` ones, before later compute work."""
        # The moves out that were queued before have to end first: they read the bytes that are
        # overwritten here, or write the host blocks that are read here. If there are none, the
        # event is done at once.
        evicted = self._out.record()
        compute = self._device.compute()
        self._in.wait(compute.record())
        self._in.wait(evicted)
        self._copy(self._in, move)
        read = self._in.record()
        compute.wait(read)
        if move.zero.size:
            cache = self._caches[move.engine]
            compute.launch(partial(kernels.clear, cache.layout, cache.views, move.zero))
        return read

    def _copy(self, stream: Stream, move: Move) -> None:
        """Queue the copies of a move, one per slab of the host pool."""
        cache = self._caches[move.engine]
        copy = kernels.gather if isinstance(move, MoveOut) else kernels.scatter
        slabs, within = np.divmod(move.offsets, self._pool.slab_bytes)
        rows = within // cache.block_bytes + self._rank
        for slab in np.bincount(slabs).nonzero()[0].tolist():
            mine: Ids = slabs == slab
            there = self._pool.rows(slab, cache.block_bytes)
            pairs = (move.blocks[mine], there, rows[mine])
            stream.launch(partial(copy, cache.layout, cache.views, *pairs))
