"""The ledger of a host KV pool: each slab's block size, and the holder of each block.

The live backend keeps the ledger in shared memory and holds the pool's lock around every method.
The simulator keeps the ledger in private memory. Both backends therefore allocate alike (paper
section 5.3, figure 16).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aegaeon.errors import UserError

MAX_BLOCKS = 16_384
MAX_SHAPES = 64
_SHAPE_FIELDS = 3

Offsets = npt.NDArray[np.int64]


class PoolFull(UserError):
    """The host KV pool cannot hold the blocks until other blocks are freed."""


@dataclass(frozen=True, slots=True)
class ShapeUse:
    """Bytes of one block size: `used` in blocks, `allocated` in bound slabs, and both peaks."""

    block_bytes: int
    used: int
    allocated: int
    peak_used: int
    peak_allocated: int


class SlabLedger:
    """Arrays in a buffer that processes may share; block offsets are bytes from the pool's start.

    Every block in use has a holder, a number other than 0. `release` finds the blocks of a dead
    process by the process's number.

    One class, because every method reads or changes the same four arrays, and a change of one array
    must leave the others consistent before the method ends.
    """

    def __init__(self, buffer: memoryview, slab_bytes: int, slabs: int) -> None:
        self.slab_bytes = slab_bytes
        self.slabs = slabs
        per_slab = self.blocks_per_slab(slab_bytes)
        numbers = np.frombuffer(buffer, np.int64, 2 * slabs + MAX_SHAPES * _SHAPE_FIELDS)
        self._bound = numbers[:slabs]
        self._used = numbers[slabs : 2 * slabs]
        self._shapes = numbers[2 * slabs :].reshape(MAX_SHAPES, _SHAPE_FIELDS)
        holders = np.frombuffer(buffer, np.int32, slabs * per_slab, numbers.nbytes)
        self._holder: npt.NDArray[np.int32] = holders.reshape(slabs, per_slab)

    @staticmethod
    def blocks_per_slab(slab_bytes: int) -> int:
        """Return the largest number of blocks per slab that the ledger can hold."""
        return min(MAX_BLOCKS, slab_bytes)

    @classmethod
    def nbytes(cls, slab_bytes: int, slabs: int) -> int:
        """Return the bytes of the buffer."""
        blocks = slabs * cls.blocks_per_slab(slab_bytes)
        return 8 * (2 * slabs + MAX_SHAPES * _SHAPE_FIELDS) + 4 * blocks

    def take(self, block_bytes: int, count: int, holder: int = 1) -> list[int]:
        """Take `count` free blocks and return their offsets, or raise and change nothing.

        Slabs bound to this size come first, the fullest before the others, so that emptier slabs
        become free. Then free slabs are bound. Raises PoolFull if other blocks must be freed first.
        Raises UserError if the pool is too small even when empty.
        """
        capacity = self._capacity(block_bytes)
        shape = self._shape(block_bytes)
        bound = np.flatnonzero((self._bound == block_bytes) & (self._used < capacity))
        bound = bound[np.argsort(-self._used[bound], kind="stable")]
        missing = count - int(bound.size * capacity - self._used[bound].sum())
        free = np.flatnonzero(self._bound == 0)
        fresh = free[: max(0, -(-missing // capacity))]
        if missing > fresh.size * capacity:
            raise self._full(block_bytes, count, capacity)
        self._bound[fresh] = block_bytes
        offsets: list[int] = []
        for slab in [*bound, *fresh]:
            found = np.flatnonzero(self._holder[slab, :capacity] == 0)[: count - len(offsets)]
            self._holder[slab, found] = holder
            self._used[slab] += found.size
            offsets.extend((int(slab) * self.slab_bytes + found * block_bytes).tolist())
        self._note_peak(shape, block_bytes)
        return offsets

    def check(self, offsets: Iterable[int]) -> None:
        """Raise ValueError unless a block in use begins at every offset, and no offset repeats."""
        self._in_use(_as_offsets(offsets))

    def free(self, offsets: Iterable[int]) -> None:
        """Free blocks; raise ValueError as `check` does, without freeing any."""
        self._vacate(*self._in_use(_as_offsets(offsets)))

    def give_back(self, offsets: Iterable[int]) -> None:
        """Free blocks that `check` accepted; a slab becomes free with its last block."""
        slabs, blocks, _ = self._locate(_as_offsets(offsets))
        self._vacate(slabs, blocks)

    def assign(self, offsets: Iterable[int], holder: int) -> None:
        """Make `holder` the holder of blocks that `check` accepted."""
        slabs, blocks, _ = self._locate(_as_offsets(offsets))
        self._holder[slabs, blocks] = holder

    def held(self, offsets: Iterable[int], holder: int) -> list[int]:
        """Return the `offsets` at which blocks of `holder` begin."""
        at = _as_offsets(offsets)
        slabs, blocks, valid = self._locate(at)
        valid[valid] = self._holder[slabs[valid], blocks[valid]] == holder
        found: list[int] = at[valid].tolist()
        return found

    def release(self, holders: Iterable[int]) -> int:
        """Free every block of dead `holders`; return the number of freed blocks.

        A killed process may leave a slab's counts half written, so all slabs are recounted.
        """
        theirs = np.isin(self._holder, np.fromiter(holders, dtype=np.int32))
        self._holder[theirs] = 0
        self._used[:] = np.count_nonzero(self._holder, axis=1)
        self._bound[self._used == 0] = 0
        return int(np.count_nonzero(theirs))

    def use(self) -> dict[int, ShapeUse]:
        """Return the use of each block size seen so far, by its bytes."""
        found = {}
        for block_bytes, peak_used, peak_slabs in self._shapes[self._shapes[:, 0] > 0].tolist():
            mine = self._bound == block_bytes
            used, slabs = int(self._used[mine].sum()), int(mine.sum())
            found[block_bytes] = ShapeUse(
                block_bytes,
                used * block_bytes,
                slabs * self.slab_bytes,
                peak_used * block_bytes,
                peak_slabs * self.slab_bytes,
            )
        return found

    def _capacity(self, block_bytes: int) -> int:
        smallest = -(-self.slab_bytes // self.blocks_per_slab(self.slab_bytes))
        if not smallest <= block_bytes <= self.slab_bytes:
            raise UserError(
                f"host KV pool: a block has {block_bytes:,} bytes, slabs of {self.slab_bytes:,} "
                f"bytes take blocks of {smallest:,} to {self.slab_bytes:,}; choose other slabs"
            )
        return self.slab_bytes // block_bytes

    def _shape(self, block_bytes: int) -> int:
        rows = np.flatnonzero((self._shapes[:, 0] == block_bytes) | (self._shapes[:, 0] == 0))
        if not rows.size:
            raise UserError(f"host KV pool: more than {MAX_SHAPES} block sizes in one run")
        self._shapes[rows[0], 0] = block_bytes
        return int(rows[0])

    def _locate(self, at: Offsets) -> tuple[Offsets, Offsets, npt.NDArray[np.bool_]]:
        """Return each offset's slab and block, and whether a block of a bound slab begins there."""
        slabs, within = np.divmod(at, self.slab_bytes)
        valid = (slabs >= 0) & (slabs < self.slabs)
        sizes = self._bound[np.where(valid, slabs, 0)]
        blocks, rest = np.divmod(within, np.maximum(sizes, 1))
        valid &= (sizes > 0) & (rest == 0) & (within + sizes <= self.slab_bytes)
        return slabs, blocks, valid

    def _in_use(self, at: Offsets) -> tuple[Offsets, Offsets]:
        slabs, blocks, valid = self._locate(at)
        valid[valid] = self._holder[slabs[valid], blocks[valid]] != 0
        if not valid.all():
            raise ValueError(f"no block in use begins at bytes {at[~valid].tolist()}")
        ordered = np.sort(at)
        if (ordered[1:] == ordered[:-1]).any():
            raise ValueError(f"a block is named twice among bytes {at.tolist()}")
        return slabs, blocks

    def _vacate(self, slabs: Offsets, blocks: Offsets) -> None:
        self._holder[slabs, blocks] = 0
        np.subtract.at(self._used, slabs, 1)
        self._bound[slabs[self._used[slabs] == 0]] = 0

    def _note_peak(self, shape: int, block_bytes: int) -> None:
        mine = self._bound == block_bytes
        now = [int(self._used[mine].sum()), int(mine.sum())]
        self._shapes[shape, 1:] = np.maximum(self._shapes[shape, 1:], now)

    def _full(self, block_bytes: int, count: int, capacity: int) -> UserError:
        asked = f"host KV pool: {count} blocks of {block_bytes:,} bytes are asked for"
        if count > self.slabs * capacity:
            return UserError(
                f"{asked}, all {self.slabs} slabs of {self.slab_bytes:,} bytes hold "
                f"{self.slabs * capacity}; give the pool more slabs"
            )
        used = self._bound == block_bytes
        free = int((self._bound == 0).sum() + used.sum()) * capacity - int(self._used[used].sum())
        return PoolFull(f"{asked}, room is left for {free}; free some or give the pool more slabs")


def _as_offsets(offsets: Iterable[int]) -> Offsets:
    if isinstance(offsets, np.ndarray):
        return offsets
    return np.fromiter(offsets, dtype=np.int64)
