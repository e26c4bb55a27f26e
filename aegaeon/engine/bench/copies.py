"""Weight switches and KV restores against one memcpy of as many bytes."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

from aegaeon.engine.bench.numbers import Number, in_turns
from aegaeon.engine.kv_store import KvMove, KvStore
from aegaeon.engine.memory import KvArena, KvLayout, KvPool, Segment, SharedDirectory
from aegaeon.engine.memory.bench import PREFETCHED_TARGET, SWITCH_TARGET
from aegaeon.engine.memory.bench import measure as measure_switches
from aegaeon.engine.memory.device import Device

KV_TARGET = 1.25
# 32 tokens of a model of 64 KV heads' worth of layers; half of the arena's blocks move.
_BLOCK_BYTES = 256 << 10
_BLOCKS = 256


def weights(device: Device, nbytes: int, rounds: int) -> list[Number]:
    """Return a switch and a prefetched switch of models of about `nbytes`."""
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


def kv_restore(device: Device, rounds: int) -> list[Number]:
    """Return a restore of scattered KV blocks from the host pool, relative to their memcpy."""
    moves: list[KvMove] = []
    with SharedDirectory.create("bench-kv") as shared:
        pool = KvPool.create(shared, _BLOCKS * _BLOCK_BYTES, 2, device)
        store = _store(device, pool)
        store.on_move(moves.append)
        rng = random.Random(0)

        def restore() -> float:
            ids = sorted(rng.sample(range(1, _BLOCKS + 1), _BLOCKS // 2))
            store.prepare("a", (), ids)
            store.prepare("b", (), ids)
            store.drop("b", ids)
            seconds = _seconds(device, lambda: store.prepare("a", ids, ()))
            store.drop("a", ids)
            return seconds

        nbytes = _BLOCKS // 2 * _BLOCK_BYTES
        target, source = device.reserve(nbytes), pool.bytes[:nbytes]

        def memcpy() -> float:
            return _seconds(device, lambda: device.compute().copy(target, source))

        taken = in_turns({"restore": restore, "memcpy": memcpy}, rounds)
        pool.close()
    if moves[-1].in_bytes != nbytes:
        raise RuntimeError(f"{moves[-1].in_bytes} bytes came back, expected {nbytes}")
    ratio = statistics.median(taken["restore"]) / statistics.median(taken["memcpy"])
    speed = nbytes / statistics.median(taken["memcpy"]) / 1e9
    on = f"{_BLOCKS // 2} scattered blocks, {nbytes / 1e6:.0f} MB; memcpy {speed:.1f} GB/s"
    return [Number("KV restore / memcpy", ratio, at_most=KV_TARGET, details=on)]


def _store(device: Device, pool: KvPool) -> KvStore:
    """Return a store of two shells whose blocks overlay each other; block 0 is nobody's."""
    arena = KvArena(device, (_BLOCKS + 1) * _BLOCK_BYTES)
    store = KvStore(device, arena, pool)
    for shell in ("a", "b"):
        arena.carve(shell, (_BLOCKS + 1) * _BLOCK_BYTES)
        store.add(shell, KvLayout(_BLOCKS + 1, (Segment(0, _BLOCK_BYTES, _BLOCK_BYTES),)))
    return store


def _seconds(device: Device, work: Callable[[], object]) -> float:
    device.compute().record().synchronize()
    began = time.perf_counter()
    work()
    device.compute().record().synchronize()
    return time.perf_counter() - began
