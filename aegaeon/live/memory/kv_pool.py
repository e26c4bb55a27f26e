"""Host memory for KV blocks that are off their device: slabs, each bound to one block size in use.

All processes of a node share the bytes and their ledger, so a decode instance reads and frees the
blocks that a prefill instance wrote. A block whose copy is in flight is freed when the copy's event
is done; allocation never waits for a copy (paper section 5.3, figure 16).
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
from aegaeon.live.memory.device import CpuDevice, Device, StreamEvent
from aegaeon.live.memory.shared import SharedDirectory, create_file, locked, map_file

_HEADER = 2


def in_flight(request: int) -> int:
    """Return the holder of a request's blocks on their way from one instance to another."""
    return -1 - request


class KvPool:
    """`slabs` slabs of `slab_bytes` each; a block's name is its byte offset in `bytes`.

    Offsets are the same in every process of the node. A block in use has a holder; the holder of
    blocks that a process allocates or takes over is the process's own positive number, `holder`.
    A process knows the copies that it started. It frees their blocks, or hands them over when the
    copies are done. Thread safe.

    One class, because the methods share the ledger, the node's lock, and the copies in flight.
    """

    def __init__(
        self, shared: SharedDirectory, name: str, device: Device | None, holder: int = 1
    ) -> None:
        try:
            self._ledger_file = os.open(shared.path / f"{name}.ledger", os.O_RDWR)
            data = os.open(shared.path / f"{name}.slabs", os.O_RDWR)
        except OSError as error:
            raise UserError(f"{shared.path}: holds no KV pool named {name}: {error}") from error
        table = memoryview(map_file(self._ledger_file, os.fstat(self._ledger_file).st_size))
        slab_bytes, slabs = np.frombuffer(table, np.int64, _HEADER).tolist()
        self.slab_bytes: int = slab_bytes
        self._ledger = SlabLedger(table[8 * _HEADER :], slab_bytes, slabs)
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
        ledger = create_file(shared.path / f"{name}.partial", size)
        os.pwrite(ledger, np.array([slab_bytes, slabs], np.int64).tobytes(), 0)
        os.close(ledger)
        os.rename(shared.path / f"{name}.partial", shared.path / f"{name}.ledger")
        return cls(shared, name, device)

    @classmethod
    def attach(
        cls,
        shared: SharedDirectory,
        device: Device | None = None,
        name: str = "kv",
        holder: int = 1,
    ) -> KvPool:
        """Use the pool that another process of this node created, as `holder`."""
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
        """Return a slab as blocks of one size, as many as fit, uint8 [blocks, block_bytes]."""
        start, count = slab * self.slab_bytes, self.slab_bytes // block_bytes
        return self.bytes[start : start + count * block_bytes].view(count, block_bytes)

    def copying(self, offsets: Sequence[int] | Offsets, event: StreamEvent) -> None:
        """Note that a copy from or to these blocks is in flight until `event` is done."""
        if not event.done():
            with self._mutex:
                self._copies.append((event, frozenset(_listed(offsets))))

    def free(self, offsets: Sequence[int] | Offsets) -> None:
        """Free blocks: those with a copy in flight when it is done, the others at once.

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
        """Make `holder` the holder of blocks in use, so that `release` finds them there.

        Raises ValueError if one of them is not in use.
        """
        with self._locked():
            self._ledger.check(offsets)
            self._ledger.assign(offsets, holder)

    def take_over(self, offsets: Sequence[int]) -> None:
        """Become the holder of blocks in use; raises ValueError if one is not in use."""
        self.hand_over(offsets, self._holder)

    def discard(self, offsets: Sequence[int], holder: int) -> None:
        """Free those of the blocks that `holder` still holds; none may have a copy in flight."""
        with self._locked():
            self._ledger.give_back(self._ledger.held(offsets, holder))

    def release(self, holders: Iterable[int]) -> int:
        """Free all blocks of dead holders; return how many there were."""
        with self._locked():
            return self._ledger.release(holders)

    def read(self, offsets: Sequence[int], block_bytes: int) -> npt.NDArray[np.uint8]:
        """Return a copy of blocks, uint8 [blocks, block_bytes]."""
        blocks = [self.block(offset, block_bytes) for offset in offsets]
        copied: npt.NDArray[np.uint8] = torch.stack(blocks).numpy()
        return copied

    def write(self, blocks: npt.NDArray[np.uint8], holder: int) -> list[int]:
        """Copy blocks, uint8 [blocks, block_bytes], into new ones of `holder`; return the offsets.

        Raises as `alloc` does.
        """
        count, block_bytes = blocks.shape
        with self._locked():
            self._reclaim()
            offsets = self._ledger.take(block_bytes, count, holder)
        for offset, block in zip(offsets, blocks, strict=True):
            self.block(offset, block_bytes).numpy()[:] = block
        return offsets

    def reclaim(self) -> int:
        """Free the blocks whose copies have completed meanwhile; return how many still wait."""
        with self._locked():
            self._reclaim()
            return len(self._leaving)

    def stats(self) -> dict[int, ShapeUse]:
        """Return use and peaks by block size, over all processes."""
        with self._locked():
            return self._ledger.use()

    def close(self) -> None:
        """Wait for this process's copies, free the blocks that wait for them, leave the pool."""
        if not self._open:
            return
        for event, _ in self._copies:
            event.synchronize()
        self.reclaim()
        self._open = False
        self._device.unregister(self.bytes)
        os.close(self._ledger_file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # A file lock excludes other processes but not threads of this one: both locks are needed.
        with self._mutex, locked(self._ledger_file):
            yield

    def _reclaim(self) -> None:
        self._copies = [(event, blocks) for event, blocks in self._copies if not event.done()]
        busy = frozenset().union(*[blocks for _, blocks in self._copies])
        self._ledger.give_back(self._leaving - busy)
        self._leaving &= busy


def _listed(offsets: Sequence[int] | Offsets) -> Sequence[int]:
    found: Sequence[int] = offsets.tolist() if isinstance(offsets, np.ndarray) else offsets
    return found
