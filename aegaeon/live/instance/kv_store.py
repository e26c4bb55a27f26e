"""Where each KV block of every engine on one device lies: on the device, in the host pool, nowhere.

A block stays on the device until another engine needs its bytes (lazy eviction, paper section 5.3)
and comes back before the first step that reads it. No other object starts a move of KV bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aegaeon.errors import UserError
from aegaeon.live.events import NO_BLOCK, HostKv
from aegaeon.live.instance.host_blocks import HostBlocks
from aegaeon.live.instance.kv_mover import KvMover
from aegaeon.live.memory.device import Device
from aegaeon.live.memory.kv_arena import Ids, KvArena
from aegaeon.live.memory.kv_cache import KvCache
from aegaeon.live.memory.kv_pool import KvPool
from aegaeon.live.tp.group import RankGroup
from aegaeon.live.tp.messages import MoveBack, MoveOut

# Pads block tables where a sliding window has moved on. It reads as zeros; no request owns it.
NULL_BLOCK = 0

BlockIds = Sequence[int]
Groups = tuple[BlockIds, ...]


@dataclass(frozen=True, slots=True)
class KvMove:
    """KV bytes that left (`out_bytes`) and entered (`in_bytes`) the device.

    They moved before a step of `engine`, or, if `exported`, when a request of `engine` left it.
    """

    engine: str
    out_bytes: int
    in_bytes: int
    seconds: float
    exported: bool = False


@dataclass(slots=True)
class _Engine:
    """What the store knows of one engine.

    `evictions` changes whenever a block leaves the device. `give_up` takes the blocks that leave
    it while the host pool has no room.
    """

    host: HostBlocks
    evictions: int = 0
    give_up: Callable[[BlockIds], None] | None = None


@dataclass(frozen=True, slots=True)
class _Victims:
    """Blocks of `engine` that have to leave the device; `lasting` are those with a request's data.

    `offsets` are the host blocks reserved for the lasting ones, None if the pool has no room.
    """

    engine: str
    blocks: Ids
    lasting: Ids
    offsets: Ids | None


class KvStore:
    """Decides which KV blocks move between an instance's devices and the node's host pool.

    The movers of all ranks obey; block ids and host offsets are the same on each rank. Every call
    keeps three facts: a block is in one place at most; bytes on the device belong to the engine
    that claimed them; a host block is freed exactly once. The arena knows which blocks are on the
    device, `HostBlocks` which are in the host pool. The store has more methods than most classes
    here: one for each thing that vLLM does to a block, and one for each step of a move.
    """

    def __init__(
        self,
        device: Device,
        arena: KvArena,
        pool: KvPool,
        rank: int = 0,
        ranks: RankGroup | None = None,
    ) -> None:
        self.mover = KvMover(device, pool, rank)
        self._ranks = ranks or RankGroup()
        self._arena = arena
        self._pool = pool
        self._moved: Callable[[KvMove], None] | None = None
        self._engines: dict[str, _Engine] = {}

    def add(self, engine: str, cache: KvCache) -> None:
        """Register an engine's blocks; none holds data yet."""
        self._arena.register(engine, cache)
        self.mover.add(engine, cache)
        block_bytes = self._ranks.size * cache.block_bytes
        self._engines[engine] = _Engine(HostBlocks(self._pool, cache.blocks, block_bytes))

    def remove(self, engine: str) -> None:
        """Forget an engine and all its blocks, if it is known."""
        known = self._engines.pop(engine, None)
        if known is not None:
            known.host.forget_all()
        self.mover.remove(engine)
        self._arena.remove(engine)

    def on_move(self, moved: Callable[[KvMove], None]) -> None:
        """Call `moved` whenever bytes were moved."""
        self._moved = moved

    def on_full(self, engine: str, give_up: Callable[[BlockIds], None]) -> None:
        """Call `give_up` with blocks that left the device without room in the host pool.

        It frees them in the engine, which computes them again when it needs them. The store is
        consistent then, and `give_up` may call `drop`.
        """
        self._engines[engine].give_up = give_up

    def evictions(self, engine: str) -> int:
        """Return a number that changes whenever a block of the engine leaves the device."""
        return self._engines[engine].evictions

    def prepare(self, engine: str, live: BlockIds, fresh: BlockIds) -> None:
        """Make a step's blocks ready: `live` ones hold their data, `fresh` ones hold zeros or data.

        Fresh blocks that others wrote to are zeroed: under another type their bytes may read as
        NaN, which a masked attention score does not hide. Raises PoolFull, with no block moved, if
        a block in the way can neither move to the host pool nor be given up.
        """
        if not (live or fresh):
            return
        if fresh:
            self._engines[engine].host.forget(_distinct(fresh))
        missing = self._arena.missing(engine, _distinct([*live, *fresh]))
        if not missing.size:
            return
        began = time.perf_counter()
        out_bytes = self._evict(self._arena.conflicts(engine, missing))
        self._arena.claim(engine, missing)
        in_bytes = self._restore(engine, missing)
        if out_bytes or in_bytes:
            self._report(KvMove(engine, out_bytes, in_bytes, time.perf_counter() - began))

    def drop(self, engine: str, blocks: Iterable[int]) -> None:
        """Forget blocks that the engine has freed, on the device and in the host pool."""
        ids = _distinct(blocks)
        self._engines[engine].host.forget(ids)
        self._arena.release(engine, ids)

    def export(self, engine: str, groups: Groups, tokens: int) -> HostKv:
        """Copy a request's blocks to the host and forget them here.

        Raises PoolFull, with nothing changed, if the pool has no room.
        """
        host, began = self._engines[engine].host, time.perf_counter()
        blocks = _distinct({block for group in groups for block in group} - {NULL_BLOCK})
        leaving = blocks[~host.has(blocks)]
        out_bytes = self._move_out(engine, leaving, host.reserve(leaving))
        if out_bytes:
            seconds = time.perf_counter() - began
            self._report(KvMove(engine, out_bytes, 0, seconds, exported=True))
        where = dict(zip(blocks.tolist(), host.take(blocks).tolist(), strict=True))
        self._arena.release(engine, blocks)
        offsets = tuple([tuple([where.get(b, NO_BLOCK) for b in group]) for group in groups])
        return HostKv(tokens, host.block_bytes, offsets, self._ranks.size)

    def adopt(self, engine: str, groups: Groups, kv: HostKv) -> None:
        """Take over a request's KV for newly allocated blocks; `prepare` loads them when needed."""
        host = self._engines[engine].host
        if kv.block_bytes != host.block_bytes:
            raise ValueError(
                f"engine {engine}: blocks of {kv.block_bytes} bytes are another model's"
            )
        pairs = [
            (block, offset)
            for blocks, offsets in zip(groups, kv.groups, strict=True)
            for block, offset in zip(blocks, offsets, strict=False)
            if offset != NO_BLOCK
        ]
        wanted = [pair for pair in pairs if pair[0] != NULL_BLOCK]
        host.put([block for block, _ in wanted], [offset for _, offset in wanted])
        self._pool.free([offset for block, offset in pairs if block == NULL_BLOCK])

    def evict(self, engine: str) -> None:
        """Move everything that an engine has on the device to the host."""
        self._evict({engine: self._arena.resident(engine)})

    def discard(self, kv: HostKv) -> None:
        """Free KV that no engine will load."""
        self._pool.free(kv.offsets)

    def settle(self) -> None:
        """Wait until every copy started so far is complete, on all ranks."""
        self.mover.settle()
        self._ranks.settle()

    def _evict(self, found: Mapping[str, Ids]) -> int:
        """Make blocks leave the device, by engine; return the bytes moved to the host.

        The victims are collected, and room for them is reserved, before any of them changes. An
        engine that has to give blocks up is told last: it frees them, which calls `drop`.
        """
        victims = self._collect(found)
        out_bytes = 0
        for victim in victims:
            if victim.offsets is not None:
                out_bytes += self._move_out(victim.engine, victim.lasting, victim.offsets)
            self._arena.release(victim.engine, victim.blocks)
            self._engines[victim.engine].evictions += 1
        for victim in victims:
            give_up = self._engines[victim.engine].give_up
            if victim.offsets is None and give_up is not None:
                give_up(victim.lasting.tolist())
        return out_bytes

    def _collect(self, found: Mapping[str, Ids]) -> list[_Victims]:
        """Reserve room in the host pool for blocks that have to leave the device.

        Raises PoolFull, with nothing reserved, for an engine that cannot give blocks up either.
        """
        victims: list[_Victims] = []
        for engine, blocks in found.items():
            known, lasting = self._engines[engine], blocks[blocks != NULL_BLOCK]
            offsets: Ids | None = None
            try:
                offsets = known.host.reserve(lasting)
            except UserError:
                if known.give_up is None:
                    for reserved in [v.offsets for v in victims if v.offsets is not None]:
                        self._pool.free(reserved)
                    raise
            victims.append(_Victims(engine, blocks, lasting, offsets))
        return victims

    def _move_out(self, engine: str, blocks: Ids, offsets: Ids) -> int:
        """Start a copy of blocks to reserved host blocks; return the bytes."""
        if not blocks.size:
            return 0
        host = self._engines[engine].host
        written = self._ranks.move(MoveOut(engine, blocks, offsets), self.mover.move)
        self._pool.copying(offsets, written)
        host.put(blocks, offsets)
        return int(blocks.size) * host.block_bytes

    def _restore(self, engine: str, blocks: Ids) -> int:
        """Start to load claimed blocks that the host has, and to clear the others.

        Returns the bytes to load.
        """
        host = self._engines[engine].host
        away = host.has(blocks)
        back, offsets = blocks[away], host.take(blocks[away])
        read = self._ranks.move(MoveBack(engine, back, offsets, blocks[~away]), self.mover.move)
        if back.size:
            self._pool.copying(offsets, read)
            self._pool.free(offsets)
        return int(back.size) * host.block_bytes

    def _report(self, move: KvMove) -> None:
        if self._moved is not None:
            self._moved(move)


def _distinct(blocks: Iterable[int]) -> Ids:
    """Return each of `blocks` once, ascending."""
    ids: Ids = np.fromiter(blocks, dtype=np.int64)
    ids.sort()
    distinct: Ids = ids[np.diff(ids, prepend=ids[:1] - 1) != 0]
    return distinct
