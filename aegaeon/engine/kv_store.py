"""Where every KV block of every shell on one device lies: on the device, in the host pool, nowhere.

Blocks stay on the device until another shell needs their bytes (lazy eviction, paper section 5.3)
and come back before the first step that reads them; nobody else moves KV bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from aegaeon.engine.events import NO_BLOCK, HostKv
from aegaeon.engine.memory.device import Device
from aegaeon.engine.memory.kv_arena import KvArena, KvLayout
from aegaeon.engine.memory.kv_pool import KvPool
from aegaeon.engine.memory.layout import ALIGN

# Pads block tables where a sliding window has moved on; it reads as zeros and is nobody's data.
NULL_BLOCK = 0

BlockIds = Sequence[int]
Groups = tuple[BlockIds, ...]


@dataclass(frozen=True, slots=True)
class KvMove:
    """KV bytes that left (`out_bytes`) and entered (`in_bytes`) the device for one step."""

    shell: str
    out_bytes: int
    in_bytes: int
    seconds: float


@dataclass(slots=True)
class _Shell:
    layout: KvLayout
    here: npt.NDArray[np.bool_]
    host: dict[int, int] = field(default_factory=dict)
    evictions: int = 0


class KvStore:
    """Moves KV blocks between one device's arena and the node's host pool, on side streams.

    Every call keeps three facts: a block is in one place at most; bytes on the device belong to the
    shell that claimed them; a host block is freed exactly once.
    """

    def __init__(
        self,
        device: Device,
        arena: KvArena,
        pool: KvPool,
    ) -> None:
        self._device = device
        self._arena = arena
        self._pool = pool
        self._moved: Callable[[KvMove], None] | None = None
        self._out = device.stream()
        self._in = device.stream()
        self._zeros = device.reserve(ALIGN)
        self._shells: dict[str, _Shell] = {}

    def add(self, shell: str, layout: KvLayout) -> None:
        """Register a shell's blocks; none holds anything yet."""
        self._arena.register(shell, layout)
        longest = max([segment.length for segment in layout.segments])
        if longest > self._zeros.numel():
            self._zeros = self._device.reserve(longest)
        self._shells[shell] = _Shell(layout, np.zeros(layout.blocks, dtype=np.bool_))

    def on_move(self, moved: Callable[[KvMove], None]) -> None:
        """Call `moved` whenever bytes were moved for a step."""
        self._moved = moved

    def evictions(self, shell: str) -> int:
        """Return a number that changes whenever a block of the shell leaves the device."""
        return self._shells[shell].evictions

    def unobstructed(self, shell: str, blocks: Iterable[int]) -> list[int]:
        """Return those of `blocks` that can be written without moving another shell's bytes."""
        return [int(block) for block in self._arena.unobstructed(shell, blocks)]

    def prepare(self, shell: str, live: BlockIds, fresh: BlockIds) -> None:
        """Make a step's blocks ready: `live` ones hold their data, `fresh` ones hold zeros or data.

        Fresh blocks that others wrote to are zeroed: under another type their bytes may read as
        NaN, which a masked attention score does not hide.
        """
        if not (live or fresh):
            return
        state = self._shells[shell]
        self._forget(state, fresh)
        needed = np.unique(np.fromiter([*live, *fresh], dtype=np.int64))
        missing = needed[~state.here[needed]]
        if not missing.size:
            return
        began = time.perf_counter()
        out_bytes = self._make_way(shell, missing)
        self._arena.claim(shell, missing)
        state.here[missing] = True
        absent = [int(block) for block in missing]
        back = [block for block in absent if block in state.host]
        self._restore(state, back)
        self._zero(state, [block for block in absent if block not in state.host])
        for block in back:
            del state.host[block]
        if self._moved is not None and (out_bytes or back):
            seconds = time.perf_counter() - began
            in_bytes = len(back) * state.layout.block_bytes
            self._moved(KvMove(shell, out_bytes, in_bytes, seconds))

    def drop(self, shell: str, blocks: Iterable[int]) -> None:
        """Forget blocks that the shell's engine has freed, wherever they are."""
        state = self._shells[shell]
        ids = np.unique(np.fromiter(blocks, dtype=np.int64))
        self._forget(state, ids.tolist())
        self._arena.release(shell, ids)
        state.here[ids] = False

    def export(self, shell: str, groups: Groups, tokens: int) -> HostKv:
        """Copy a request's blocks to the host and forget them here.

        Raises PoolFull, with nothing changed, if the pool has no room.
        """
        state = self._shells[shell]
        blocks = sorted({block for group in groups for block in group} - {NULL_BLOCK})
        self._to_host(state, [block for block in blocks if block not in state.host])
        where = {block: state.host.pop(block) for block in blocks}
        self.drop(shell, blocks)
        offsets = tuple([tuple([where.get(b, NO_BLOCK) for b in group]) for group in groups])
        return HostKv(tokens, state.layout.block_bytes, offsets)

    def adopt(self, shell: str, groups: Groups, kv: HostKv) -> None:
        """Take over a request's KV for newly allocated blocks; `prepare` loads them when needed."""
        state = self._shells[shell]
        if kv.block_bytes != state.layout.block_bytes:
            raise ValueError(f"shell {shell}: blocks of {kv.block_bytes} bytes are another model's")
        pairs = [
            (block, offset)
            for blocks, offsets in zip(groups, kv.groups, strict=True)
            for block, offset in zip(blocks, offsets, strict=False)
            if offset != NO_BLOCK
        ]
        state.host.update({block: offset for block, offset in pairs if block != NULL_BLOCK})
        self._pool.free([offset for block, offset in pairs if block == NULL_BLOCK])

    def evict(self, shell: str) -> None:
        """Move everything a shell has on the device to the host."""
        self._evict(shell, self._arena.resident(shell))

    def discard(self, kv: HostKv) -> None:
        """Give up KV that nobody will load."""
        self._pool.free(kv.offsets)

    def settle(self) -> None:
        """Wait until every copy to the host started so far is complete."""
        self._out.record().synchronize()

    def _forget(self, state: _Shell, blocks: Iterable[int]) -> None:
        stale = [state.host.pop(block) for block in blocks if block in state.host]
        if stale:
            self._pool.free(stale)

    def _make_way(self, shell: str, blocks: npt.NDArray[np.int64]) -> int:
        """Move other shells' overlapping blocks to the host; return the bytes moved."""
        conflicts = self._arena.conflicts(shell, blocks)
        return sum([self._evict(other, ids) for other, ids in conflicts.items()])

    def _evict(self, shell: str, ids: npt.NDArray[np.int64]) -> int:
        state = self._shells[shell]
        leaving = [int(block) for block in ids if block != NULL_BLOCK]
        self._to_host(state, leaving)
        self._arena.release(shell, ids)
        state.here[ids] = False
        state.evictions += 1
        return len(leaving) * state.layout.block_bytes

    def _to_host(self, state: _Shell, blocks: BlockIds) -> None:
        if not blocks:
            return
        offsets = self._pool.alloc(state.layout.block_bytes, len(blocks))
        self._out.wait(self._device.compute().record())
        self._copy(state.layout, blocks, offsets, out=True)
        self._pool.copying(offsets, self._out.record())
        state.host.update(zip(blocks, offsets, strict=True))

    def _restore(self, state: _Shell, blocks: BlockIds) -> None:
        # Waiting for the way out covers both: bytes that had to leave the arena first, and host
        # blocks that are still being written. Evicting may have moved nothing, but then it is free.
        evicted = self._out.record()
        compute = self._device.compute()
        self._in.wait(compute.record())
        self._in.wait(evicted)
        if blocks:
            offsets = [state.host[block] for block in blocks]
            self._copy(state.layout, blocks, offsets, out=False)
            self._pool.copying(offsets, self._in.record())
            self._pool.free(offsets)
        compute.wait(self._in.record())

    def _copy(self, layout: KvLayout, blocks: BlockIds, offsets: Sequence[int], out: bool) -> None:
        device, host = self._arena.bytes, self._pool.bytes
        size = layout.block_bytes
        stream = self._out if out else self._in
        contiguous = len(layout.segments) == 1 and layout.segments[0].pitch == size
        runs = _runs(blocks, offsets, size if contiguous else 0)
        for block, offset, count in runs:
            at = offset
            for segment in layout.segments:
                start = segment.start + block * segment.pitch
                here = device[start : start + segment.length * count]
                there = host[at : at + segment.length * count]
                stream.copy(*((there, here) if out else (here, there)))
                at += segment.length

    def _zero(self, state: _Shell, blocks: BlockIds) -> None:
        compute = self._device.compute()
        for block in blocks:
            for segment in state.layout.segments:
                start = segment.start + block * segment.pitch
                there = self._arena.bytes[start : start + segment.length]
                compute.copy(there, self._zeros[: segment.length])


def _runs(blocks: BlockIds, offsets: Sequence[int], size: int) -> list[tuple[int, int, int]]:
    """Join neighbours into (block, offset, count); with size 0 nothing is joined."""
    runs: list[tuple[int, int, int]] = []
    for block, offset in sorted(zip(blocks, offsets, strict=True)):
        if runs and size:
            first, at, count = runs[-1]
            if block == first + count and offset == at + count * size:
                runs[-1] = (first, at, count + 1)
                continue
        runs.append((block, offset, 1))
    return runs


def carve(arena: KvArena, shell: str, nbytes: int) -> torch.Tensor:
    """Return the int8 [nbytes] that a shell's engine takes for its KV cache."""
    return arena.carve(shell, nbytes).view(torch.int8)
