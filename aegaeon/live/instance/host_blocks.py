"""Which of one engine's KV blocks are in the node's host pool, and where."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aegaeon.live.events import NO_BLOCK
from aegaeon.live.memory.kv_arena import Ids
from aegaeon.live.memory.kv_pool import KvPool


class HostBlocks:
    """The host side of an engine's `count` blocks; one has `block_bytes` bytes, of all ranks."""

    def __init__(self, pool: KvPool, count: int, block_bytes: int) -> None:
        self.block_bytes = block_bytes
        self._pool = pool
        self._offsets: Ids = np.full(count, NO_BLOCK)

    def reserve(self, blocks: Ids) -> Ids:
        """Return the offsets of new host blocks, one for each of `blocks`.

        Raises PoolFull if others have to be freed first, UserError if that could not help either.
        """
        count = int(blocks.size)
        found = self._pool.alloc(self.block_bytes, count) if count else []
        return np.array(found, dtype=np.int64)

    def put(self, blocks: Sequence[int] | Ids, offsets: Sequence[int] | Ids) -> None:
        """Note that the data of `blocks` is in the host blocks at `offsets`."""
        self._offsets[blocks] = offsets

    def has(self, blocks: Ids) -> npt.NDArray[np.bool_]:
        """Return of each of `blocks` whether the host has it."""
        held: npt.NDArray[np.bool_] = self._offsets[blocks] != NO_BLOCK
        return held

    def take(self, blocks: Ids) -> Ids:
        """Return the offsets of `blocks`, which the host has; the caller frees them."""
        offsets = self._offsets[blocks]
        self._offsets[blocks] = NO_BLOCK
        return offsets

    def forget(self, blocks: Ids) -> None:
        """Free the host blocks of those of `blocks` that the host has."""
        stale = blocks[self.has(blocks)]
        if stale.size:
            self._pool.free(self.take(stale))

    def forget_all(self) -> None:
        """Free all of the engine's host blocks."""
        self.forget(np.arange(self._offsets.size))
