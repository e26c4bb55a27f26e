"""Host memory for KV blocks that are off their device: slabs, each bound to one block size in use.

All processes of a node share the bytes and the tables, so a block that a prefill instance wrote is
read and freed by a decode instance. Blocks whose copy is in flight stay on a move list until its
event is done; allocation never waits for one (paper section 5.3, figure 16).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from aegaeon.errors import UserError
from aegaeon.kv_ledger import Offsets, ShapeUse, SlabLedger
from aegaeon.kv_ledger import PoolFull as PoolFull  # also where the memory room offers it
from aegaeon.live.memory.device import CpuDevice, Device, StreamEvent
from aegaeon.live.memory.shared import SharedDirectory, create_file, locked, map_file

_HEADER = 2


def in_flight(request: int) -> int:
    """Return the holder of a request's blocks on their way from one instance to another."""
    return -1 - request


class KvPool:
    """`slabs` slabs of `slab_bytes` each; blocks are named by their byte offset in `bytes`.

    Blocks that a process allocates or takes over are its `holder`'s, a positive number of its own.
    Offsets mean the same in every process of the node. Moves in flight are known to the process
    that started them: it frees such blocks, or hands them on once the copy is done. Thread safe.
    """

    def __init__(
        self, shared: SharedDirectory, name: str, device: Device | None, holder: int = 1
    ) -> None:
        try:
            self._books = os.open(shared.path / f"{name}.tables", os.O_RDWR)
            data = os.open(shared.path / f"{name}.slabs", os.O_RDWR)
        except OSError as error:
            raise UserError(f"{shared.path}: holds no KV pool named {name}: {error}") from error
        books = memoryview(map_file(self._books, os.fstat(self._books).st_size))
        slab_bytes, slabs = np.frombuffer(books, np.int64, _HEADER).tolist()
        self.slab_bytes: int = slab_bytes
        self._ledger = SlabLedger(books[8 * _HEADER :], slab_bytes, slabs)
        self.bytes = torch.frombuffer(map_file(data, slab_bytes * slabs), dtype=torch.uint8)
        os.close(data)
        self._device = device or CpuDevice()
        self._device.register(self.bytes)
        self._holder = holder
        self._mutex = threading.RLock()
        self._copies: list[tuple[StreamEvent, frozenset[int]]] = []
        self._leaving: set[int] = set()
        self._open = True

    @classmethod
    def create(
        cls,
        shared: SharedDirectory,
        slab_bytes: int,
        slabs: int,
        device: Device | None = None,
        name: str = "kv",
    ) -> KvPool:
        """Reserve the pool's memory, once per node; raises UserError if there is not enough."""
        if slab_bytes < 1 or slabs < 1:
            raise UserError(
                f"host KV pool: needs slabs of a byte or more, got {slabs=}, {slab_bytes=}"
            )
        os.close(create_file(shared.path / f"{name}.slabs", slab_bytes * slabs))
        size = 8 * _HEADER + SlabLedger.nbytes(slab_bytes, slabs)
        books = create_file(shared.path / f"{name}.partial", size)
        os.pwrite(books, np.array([slab_bytes, slabs], np.int64).tobytes(), 0)
        os.close(books)
        os.rename(shared.path / f"{name}.partial", shared.path / f"{name}.tables")
        return cls(shared, name, device)

    @classmethod
    def attach(
        cls,
        shared: SharedDirectory,
        device: Device | None = None,
        name: str = "kv",
        holder: int = 1,
    ) -> KvPool:
        """Use the pool that another process of this node created; blocks are `holder`'s."""
        return cls(shared, name, device, holder)

    def alloc(self, block_bytes: int, count: int) -> list[int]:
        """Return the offsets of `count` blocks; never waits for a copy.

        Raises PoolFull if others have to be freed first, UserError if that could not help either.
        """
        with self._locked():
            self._reclaim()
            return self._ledger.take(block_bytes, count, self._holder)

    def block(self, offset: int, block_bytes: int) -> torch.Tensor:
        """Return one block's bytes, uint8 [block_bytes]."""
        return self.bytes[offset : offset + block_bytes]

    def rows(self, slab: int, block_bytes: int) -> torch.Tensor:
        """Return a slab as the blocks of this size it has room for, uint8 [blocks, block_bytes]."""
        start, count = slab * self.slab_bytes, self.slab_bytes // block_bytes
        return self.bytes[start : start + count * block_bytes].view(count, block_bytes)

    def copying(self, offsets: Sequence[int] | Offsets, event: StreamEvent) -> None:
        """Note that a copy from or to these blocks is in flight until `event` is done."""
        if not event.done():
            with self._mutex:
                self._copies.append((event, frozenset(_listed(offsets))))

    def free(self, offsets: Sequence[int] | Offsets) -> None:
        """Give blocks back, at once or, those with a copy in flight, when that is done.

        Raises ValueError, and frees nothing, if one of them is not in use.
        """
        with self._locked():
            if not self._copies:
                self._ledger.free(offsets)
                return
            self._ledger.check(offsets)
            leaving = _listed(offsets)
            if not self._leaving.isdisjoint(leaving):
                raise ValueError("a block was freed twice while its copy was in flight")
            self._leaving.update(leaving)
            self._reclaim()

    def hand_over(self, offsets: Sequence[int], holder: int) -> None:
        """Make blocks in use another holder's, so that `release` finds them there.

        Raises ValueError if one of them is not in use.
        """
        with self._locked():
            self._ledger.check(offsets)
            self._ledger.assign(offsets, holder)

    def take_over(self, offsets: Sequence[int]) -> None:
        """Make blocks in use this process's own; raises ValueError if one is not in use."""
        self.hand_over(offsets, self._holder)

    def discard(self, offsets: Sequence[int], holder: int) -> None:
        """Free those of the blocks that `holder` still holds, no copy of which is in flight."""
        with self._locked():
            self._ledger.give_back(self._ledger.held(offsets, holder))

    def release(self, holders: Iterable[int]) -> int:
        """Free all blocks of holders that are dead; return how many there were."""
        with self._locked():
            return self._ledger.release(holders)

    def read(self, offsets: Sequence[int], block_bytes: int) -> npt.NDArray[np.uint8]:
        """Return a copy of blocks, uint8 [blocks, block_bytes]."""
        blocks = [self.block(offset, block_bytes) for offset in offsets]
        copied: npt.NDArray[np.uint8] = torch.stack(blocks).numpy()
        return copied

    def write(self, blocks: npt.NDArray[np.uint8], holder: int) -> list[int]:
        """Allocate room for blocks, uint8 [blocks, block_bytes], fill it, return the offsets.

        They are `holder`'s. Raises as `alloc` does.
        """
        count, block_bytes = blocks.shape
        with self._locked():
            self._reclaim()
            offsets = self._ledger.take(block_bytes, count, holder)
        for offset, block in zip(offsets, blocks, strict=True):
            self.block(offset, block_bytes).numpy()[:] = block
        return offsets

    def reclaim(self) -> int:
        """Give back the freed blocks whose copies have completed; return how many still wait."""
        with self._locked():
            self._reclaim()
            return len(self._leaving)

    def stats(self) -> dict[int, ShapeUse]:
        """Return use and peaks by block size, over all processes."""
        with self._locked():
            return self._ledger.use()

    def close(self) -> None:
        """Wait for this process's copies, give back what it freed, and stop using the pool."""
        if not self._open:
            return
        for event, _ in self._copies:
            event.synchronize()
        self.reclaim()
        self._open = False
        self._device.unregister(self.bytes)
        os.close(self._books)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # A file lock excludes other processes, but not this one's threads: hence both.
        with self._mutex, locked(self._books):
            yield

    def _reclaim(self) -> None:
        self._copies = [(event, blocks) for event, blocks in self._copies if not event.done()]
        busy = frozenset().union(*[blocks for _, blocks in self._copies])
        self._ledger.give_back(self._leaving - busy)
        self._leaving &= busy


def _listed(offsets: Sequence[int] | Offsets) -> Sequence[int]:
    found: Sequence[int] = offsets.tolist() if isinstance(offsets, np.ndarray) else offsets
    return found
