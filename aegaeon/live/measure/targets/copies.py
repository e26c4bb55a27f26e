"""Weight switches and KV restores against one memcpy of the same bytes."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from aegaeon.live.instance.kv_store import KvMove, KvStore
from aegaeon.live.measure.memory import PREFETCHED_TARGET, SWITCH_TARGET
from aegaeon.live.measure.memory import measure as measure_switches
from aegaeon.live.measure.targets.numbers import Number, in_turns
from aegaeon.live.memory.device import Device
from aegaeon.live.memory.kv_arena import KvArena
from aegaeon.live.memory.kv_cache import KvCache, layer_views
from aegaeon.live.memory.kv_pool import KvPool
from aegaeon.live.memory.shared import SharedDirectory

KV_TARGET = 1.25
# Half of an arena's blocks move: the same bytes for every block size.
_MOVED_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Blocks:
    """KV blocks of `block_bytes`, each in `layers` separate pieces of the arena."""

    block_bytes: int
    layers: int = 1

    @property
    def moved(self) -> int:
        """The number of blocks that move."""
        return _MOVED_BYTES // self.block_bytes

    @property
    def count(self) -> int:
        """The number of blocks of an engine: twice `moved`, and the null block."""
        return 2 * self.moved + 1

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks."""
        return self.count * self.block_bytes

    def cache(self, arena: KvArena) -> KvCache:
        """Return an engine's blocks in an arena, from its first byte."""
        page = self.block_bytes // self.layers
        views = layer_views(arena.bytes, self.count, page, self.layers, self.count * page, page)
        return KvCache.of(views)

    def __str__(self) -> str:
        apart = f" in {self.layers} layers" if self.layers > 1 else ""
        return f"{self.block_bytes >> 10} KiB blocks{apart}"


# From 16 tokens of a tiny model to 16 of a large one. On a CPU, vLLM's cache separates layers.
KV_BLOCKS = (Blocks(32 << 10), Blocks(256 << 10), Blocks(1 << 20), Blocks(256 << 10, layers=8))


def weights(device: Device, nbytes: int, rounds: int) -> list[Number]:
    """Return the ratios of a switch and a prefetched switch, for models of about `nbytes`."""
    times = measure_switches(device, nbytes, rounds)
    on = f"{times.nbytes / 1e6:.0f} MB; memcpy {times.nbytes / times.memcpy_s / 1e9:.1f} GB/s"
    return [
        Number("weight switch / memcpy", times.switch_ratio, at_most=SWITCH_TARGET, details=on),
        Number(
            "prefetched switch / memcpy",
            times.prefetched_ratio,
            at_most=PREFETCHED_TARGET,
            details=on,
        ),
    ]


def kv_restore(device: Device, rounds: int, blocks: Blocks) -> Number:
    """Return the ratio of a restore of scattered KV blocks from the host pool to a memcpy."""
    moves: list[KvMove] = []
    with SharedDirectory.create("bench-kv") as shared:
        pool = KvPool.create(shared, 2 * _MOVED_BYTES, 2, device)
        store = _store(device, pool, blocks)
        store.on_move(moves.append)
        rng = random.Random(0)

        def restore() -> float:
            ids = sorted(rng.sample(range(1, 2 * blocks.moved + 1), blocks.moved))
            store.prepare("a", (), ids)
            store.prepare("b", (), ids)
            store.drop("b", ids)
            seconds = _seconds(device, lambda: store.prepare("a", ids, ()))
            store.drop("a", ids)
            return seconds

        target, source = device.reserve(_MOVED_BYTES), pool.bytes[:_MOVED_BYTES]

        def memcpy() -> float:
            return _seconds(device, lambda: device.compute().copy(target, source))

        taken = in_turns({"restore": restore, "memcpy": memcpy}, rounds)
        pool.close()
    if moves[-1].in_bytes != _MOVED_BYTES:
        raise RuntimeError(f"{moves[-1].in_bytes} bytes came back, expected {_MOVED_BYTES}")
    ratio = statistics.median(taken["restore"]) / statistics.median(taken["memcpy"])
    speed = _MOVED_BYTES / statistics.median(taken["memcpy"]) / 1e9
    on = f"{blocks.moved} scattered blocks, {_MOVED_BYTES / 1e6:.0f} MB; memcpy {speed:.1f} GB/s"
    return Number(f"KV restore / memcpy, {blocks}", ratio, at_most=KV_TARGET, details=on)


def _store(device: Device, pool: KvPool, blocks: Blocks) -> KvStore:
    """Return a store of two engines whose blocks overlay each other."""
    arena = KvArena(device, blocks.nbytes)
    store = KvStore(device, arena, pool)
    for engine in ("a", "b"):
        arena.carve(engine, blocks.nbytes)
        store.add(engine, blocks.cache(arena))
    return store


def _seconds(device: Device, work: Callable[[], object]) -> float:
    device.compute().record().synchronize()
    began = time.perf_counter()
    work()
    device.compute().record().synchronize()
    return time.perf_counter() - began
