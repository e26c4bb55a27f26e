"""Where each KV block of every engine on one device lies: on the device, in the host pool, nowhere.

Blocks stay on the device until another engine needs their bytes (lazy eviction, paper section 5.3)
and come back before the first step that reads them; nobody else moves KV bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from aegaeon.errors import UserError
from aegaeon.live.events import NO_BLOCK, HostKv
from aegaeon.live.instance.kv_mover import KvMover
from aegaeon.live.memory.device import Device, StreamEvent
from aegaeon.live.memory.kv_arena import Ids, KvArena, KvLayout
from aegaeon.live.memory.kv_pool import KvPool, in_flight
from aegaeon.live.tp.group import RankGroup

# Pads block tables where a sliding window has moved on; it reads as zeros and is nobody's data.
NULL_BLOCK = 0

BlockIds = Sequence[int]
Groups = tuple[BlockIds, ...]


@dataclass(frozen=True, slots=True)
class KvMove:
    """KV bytes that left (`out_bytes`) and entered (`in_bytes`) the device for one step.

    `exported` says that a request's KV went to the host pool, else they moved before the step ran.
    """

    engine: str
    out_bytes: int
    in_bytes: int
    seconds: float
    exported: bool = False


@dataclass(slots=True)
class _Engine:
    """`here`: is a block on the device; `host`: its offset in the host pool, or NO_BLOCK."""

    block_bytes: int
    here: npt.NDArray[np.bool_]
    host: Ids
    evictions: int = 0
    give_up: Callable[[BlockIds], None] | None = None


class KvStore:
    """Decides which KV blocks move between an instance's devices and the node's host pool.

    The movers of all ranks obey; block ids and host offsets are the same on each. Every call keeps
    three facts: a block is in one place at most; bytes on the device belong to the engine that
    claimed them; a host block is freed exactly once.
    """

    def __init__(
        self,
        device: Device,
        arena: KvArena,
        pool: KvPool,
        rank: int = 0,
        ranks: RankGroup | None = None,
    ) -> None:
        self.mover = KvMover(device, arena.bytes, pool, rank)
        self._ranks = ranks or RankGroup()
        self._arena = arena
        self._pool = pool
        self._moved: Callable[[KvMove], None] | None = None
        self._engines: dict[str, _Engine] = {}

    def add(self, engine: str, layout: KvLayout) -> None:
        """Register an engine's blocks; none holds anything yet."""
        self._arena.register(engine, layout)
        self.mover.add(engine, layout)
        host_bytes = self._ranks.size * layout.block_bytes
        here = np.zeros(layout.blocks, dtype=np.bool_)
        self._engines[engine] = _Engine(host_bytes, here, np.full(layout.blocks, NO_BLOCK))

    def remove(self, engine: str) -> None:
        """Forget an engine and all its blocks, if it is known."""
        state = self._engines.pop(engine, None)
        if state is not None:
            self._pool.free(state.host[state.host != NO_BLOCK])
        self.mover.remove(engine)
        self._arena.remove(engine)

    def on_move(self, moved: Callable[[KvMove], None]) -> None:
        """Call `moved` whenever bytes were moved."""
        self._moved = moved

    def on_full(self, engine: str, give_up: Callable[[BlockIds], None]) -> None:
        """Call `give_up` with blocks that must leave the device and have no room on the host.

        It frees them in the engine, which computes them again when it needs them.
        """
        self._engines[engine].give_up = give_up

    def evictions(self, engine: str) -> int:
        """Return a number that changes whenever a block of the engine leaves the device."""
        return self._engines[engine].evictions

    def unobstructed(self, engine: str, blocks: Iterable[int]) -> list[int]:
        """Return those of `blocks` that can be written without moving another engine's bytes."""
        return [int(block) for block in self._arena.unobstructed(engine, blocks)]

    def prepare(self, engine: str, live: BlockIds, fresh: BlockIds) -> None:
        """Make a step's blocks ready: `live` ones hold their data, `fresh` ones hold zeros or data.

        Fresh blocks that others wrote to are zeroed: under another type their bytes may read as
        NaN, which a masked attention score does not hide.
        """
        if not (live or fresh):
            return
        state = self._engines[engine]
        if fresh:
            self._forget(state, _distinct(fresh))
        needed = _distinct([*live, *fresh])
        missing = needed[~state.here[needed]]
        if not missing.size:
            return
        began = time.perf_counter()
        out_bytes = self._make_way(engine, missing)
        self._arena.claim(engine, missing)
        state.here[missing] = True
        away = state.host[missing] != NO_BLOCK
        back = missing[away]
        self._restore(engine, back, missing[~away])
        if self._moved is not None and (out_bytes or back.size):
            seconds = time.perf_counter() - began
            in_bytes = back.size * state.block_bytes
            self._moved(KvMove(engine, out_bytes, in_bytes, seconds))

    def drop(self, engine: str, blocks: Iterable[int]) -> None:
        """Forget blocks that the engine has freed, wherever they are."""
        state = self._engines[engine]
        ids = _distinct(blocks)
        self._forget(state, ids)
        self._arena.release(engine, ids)
        state.here[ids] = False

    def export(self, engine: str, groups: Groups, tokens: int) -> HostKv:
        """Copy a request's blocks to the host and forget them here.

        Raises PoolFull, with nothing changed, if the pool has no room.
        """
        state, began = self._engines[engine], time.perf_counter()
        blocks = _distinct({block for group in groups for block in group} - {NULL_BLOCK})
        leaving = blocks[state.host[blocks] == NO_BLOCK]
        self._to_host(engine, leaving)
        if self._moved is not None and leaving.size:
            seconds = time.perf_counter() - began
            out_bytes = leaving.size * state.block_bytes
            self._moved(KvMove(engine, out_bytes, 0, seconds, exported=True))
        where = dict(zip(blocks.tolist(), state.host[blocks].tolist(), strict=True))
        state.host[blocks] = NO_BLOCK
        self.drop(engine, blocks)
        offsets = tuple([tuple([where.get(b, NO_BLOCK) for b in group]) for group in groups])
        return HostKv(tokens, state.block_bytes, offsets, self._ranks.size)

    def adopt(self, engine: str, groups: Groups, kv: HostKv) -> None:
        """Take over a request's KV for newly allocated blocks; `prepare` loads them when needed."""
        state = self._engines[engine]
        if kv.block_bytes != state.block_bytes:
            raise ValueError(
                f"engine {engine}: blocks of {kv.block_bytes} bytes are another model's"
            )
        pairs = [
            (block, offset)
            for blocks, offsets in zip(groups, kv.groups, strict=True)
            for block, offset in zip(blocks, offsets, strict=False)
            if offset != NO_BLOCK
        ]
        for block, offset in pairs:
            if block != NULL_BLOCK:
                state.host[block] = offset
        self._pool.free([offset for block, offset in pairs if block == NULL_BLOCK])

    def evict(self, engine: str) -> None:
        """Move everything an engine has on the device to the host."""
        self._evict(engine, self._arena.resident(engine))

    def discard(self, kv: HostKv) -> None:
        """Give up KV that nobody will load."""
        self._pool.free(kv.offsets)

    def hand_over(self, kv: HostKv, request: int) -> None:
        """Note that exported KV is on its way to another instance and not this process's."""
        self._pool.hand_over(kv.offsets, in_flight(request))

    def take_over(self, kv: HostKv) -> None:
        """Note that KV which another instance handed over is this process's."""
        self._pool.take_over(kv.offsets)

    def settle(self) -> None:
        """Wait until every copy to the host started so far is complete."""
        self.mover.settle()
        self._ranks.settle()

    def _forget(self, state: _Engine, blocks: Ids) -> None:
        stale = blocks[state.host[blocks] != NO_BLOCK]
        if stale.size:
            self._pool.free(state.host[stale])
            state.host[stale] = NO_BLOCK

    def _make_way(self, engine: str, blocks: Ids) -> int:
        """Move other engines' overlapping blocks to the host; return the bytes moved."""
        conflicts = self._arena.conflicts(engine, blocks)
        return sum([self._evict(other, ids) for other, ids in conflicts.items()])

    def _evict(self, engine: str, ids: Ids) -> int:
        state = self._engines[engine]
        leaving = ids[ids != NULL_BLOCK]
        state.evictions += 1
        try:
            self._to_host(engine, leaving)
        except UserError:
            if state.give_up is None:
                raise
            state.give_up(leaving.tolist())
            leaving = leaving[:0]
        self._arena.release(engine, ids)
        state.here[ids] = False
        return len(leaving) * state.block_bytes

    def _to_host(self, engine: str, blocks: Ids) -> None:
        if not blocks.size:
            return
        state = self._engines[engine]
        offsets = np.array(self._pool.alloc(state.block_bytes, blocks.size))
        self._pool.copying(offsets, self._move("out", engine, blocks, offsets))
        state.host[blocks] = offsets

    def _restore(self, engine: str, blocks: Ids, zero: Ids) -> None:
        host = self._engines[engine].host
        places = host[blocks]
        read = self._move("back", engine, blocks, places, zero)
        if blocks.size:
            self._pool.copying(places, read)
            self._pool.free(places)
            host[blocks] = NO_BLOCK

    def _move(self, way: str, *args: object) -> StreamEvent:
        here: Callable[..., StreamEvent] = getattr(self.mover, way)
        return self._ranks.move(way, *args, local=lambda: here(*args))


def _distinct(blocks: Iterable[int]) -> Ids:
    """Return each of `blocks` once, ascending."""
    ids: Ids = np.fromiter(blocks, dtype=np.int64)
    ids.sort()
    distinct: Ids = ids[np.diff(ids, prepend=ids[:1] - 1) != 0]
    return distinct


def carve(arena: KvArena, engine: str, nbytes: int) -> torch.Tensor:
    """Return the int8 [nbytes] that an engine takes for its KV cache."""
    return arena.carve(engine, nbytes).view(torch.int8)
