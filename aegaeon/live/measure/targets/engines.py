"""Many engines in one process: start time, memory, and KV bytes moved."""

from __future__ import annotations

import gc
import re
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from aegaeon.live.instance.device_pool import DevicePool
from aegaeon.live.instance.kv_store import KvMove
from aegaeon.live.measure.targets.numbers import Number
from aegaeon.live.memory.device import Device
from aegaeon.live.memory.kv_pool import KvPool
from aegaeon.live.memory.shared import SharedDirectory
from aegaeon.live.memory.weight_cache import WeightCache
from aegaeon.live.tiny import GREEDY, TinyModel, tiny_options
from aegaeon.live.vllm.model_engine import ModelEngine

READY_TARGET_S = 1.0
GROWTH_TARGET_MIB = 50.0
# A few megabytes each, so that weights stand out from an engine's other memory.
_MODEL = TinyModel("bench", "qwen2", layers=4, heads=8, ffn=1024)
_TURNS = 3
_FIRST = 2
_RESIDENT = re.compile(r"^Rss(?:Anon|File|Shmem):\s+(\d+) kB", re.M)


@contextmanager
def device_pool(
    device: Device, *, slot_bytes: int, kv_bytes: int, host_kv_bytes: int = 64 << 20
) -> Iterator[DevicePool]:
    """Yield a device's memory and a node's host memory; all is released after the block."""
    with SharedDirectory.create("bench") as shared:
        cache = WeightCache(shared, 4 << 30, device)
        host_kv = KvPool.create(shared, host_kv_bytes, 1, device)
        pool = DevicePool(device, cache, host_kv, slot_bytes=slot_bytes, kv_bytes=kv_bytes)
        yield pool
        pool.close()
        host_kv.close()


def many(device: Device, folder: Path, count: int) -> list[Number]:
    """Return the start time, the memory and the moved KV of `count` engines of one architecture."""
    models = [replace(_MODEL, name=f"bench-{seed}", seed=seed) for seed in range(count)]
    paths = [model.build(folder) for model in models]
    options = replace(tiny_options(_MODEL), max_num_seqs=16)
    ready: list[float] = []
    with device_pool(device, slot_bytes=64 << 20, kv_bytes=64 << 20) as pool:
        engines: list[ModelEngine] = []
        for model, path in zip(models, paths, strict=True):
            if len(engines) == _FIRST:
                before = resident_bytes()
            began = time.perf_counter()
            engines.append(ModelEngine(model.name, path, pool, options))
            ready.append(time.perf_counter() - began)
        grown = (resident_bytes() - before) / (count - _FIRST)
        moved = _moved_bytes(pool, engines)
        for engine in engines:
            engine.close()
    size = (paths[0] / "model.safetensors").stat().st_size
    beside, first = (grown - size) / 2**20, f"{size / 2**20:.0f} MiB of weights each"
    on = f"{count} models of one architecture, {first}"
    return [
        Number("bytes moved without conflict", moved, "B", at_most=0.0, details=on),
        Number(
            *("further model ready", statistics.median(ready[1:]), "s"),
            at_most=READY_TARGET_S,
            details=f"{on}; the first took {ready[0]:.1f} s",
        ),
        Number("memory beside weights", beside, "MiB", at_most=GROWTH_TARGET_MIB, details=on),
    ]


def resident_bytes() -> int:
    """Return the resident bytes of this process: anonymous, mapped files and shared memory."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return sum([int(kibibytes) for kibibytes in _RESIDENT.findall(status)]) * 1024


def _moved_bytes(pool: DevicePool, engines: list[ModelEngine]) -> float:
    """Let every model run a request, in turns of one step; return the KV bytes that moved."""
    moves: list[KvMove] = []
    pool.store.on_move(moves.append)
    for engine in engines:
        engine.add("r", [1, 2, 3, 4], {**GREEDY, "max_tokens": _TURNS})
    for _ in range(_TURNS):
        for engine in engines:
            pool.activate(engine.name)
            engine.step()
    return float(sum([move.out_bytes + move.in_bytes for move in moves]))
