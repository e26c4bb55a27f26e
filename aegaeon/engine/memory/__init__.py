"""Memory of the live backend: arenas, host weight cache, host KV pool (paper section 5).

Nothing here knows vLLM; it needs torch only. How a shell uses it:

    device = open_device("cuda:0")                       # or "cpu"
    shared = SharedDirectory.create("node0")             # once per node; others: .attach(path)
    cache = WeightCache(shared, budget_bytes=64 << 30, device=device)
    weights = WeightArena(device, slot_bytes=16 << 30, slots=2)

    layout = WeightLayout.of(model)                      # after vLLM has loaded and processed it
    host = cache.pack(path, layout, model, variant="tp0")   # or .put, .load, .get
    weights.bind("m", model, layout)            # parameters become views of the arena
    weights.switch("m", host.bytes)             # one contiguous copy, on the compute stream
    weights.prefetch("n", other.bytes)          # on a side stream; switch("n", ...) is cheap then

    kv = KvArena(device, nbytes=30 << 30)
    raw = kv.carve("m", nbytes)                 # what vLLM would have got from torch.zeros
    kv.register("m", KvLayout.of_layers(blocks, page_bytes, layers, layer_stride, block_stride))
    for other, ids in kv.conflicts("m", needed).items():    # empty: not a byte has to move
        ...copy blocks `ids` of shell `other` to the host pool...
        kv.release(other, ids)
    kv.claim("m", needed)                       # the shell may now write these blocks

    pool = KvPool.create(shared, slab_bytes=1 << 30, slabs=256, device=device)  # others: .attach
    offsets = pool.alloc(block_bytes, n)        # n byte offsets into pool.bytes, or PoolFull
    stream.copy(pool.block(offsets[0], block_bytes), block_on_device)
    pool.copying(offsets, stream.record())      # a free now waits for this copy, alone
    pool.free(offsets)

Names are resolved on first use, so that `aegaeon.engine.memory.cleanup` works without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aegaeon.engine.memory.arena import Activation as Activation
    from aegaeon.engine.memory.arena import WeightArena as WeightArena
    from aegaeon.engine.memory.cleanup import remove_leftovers as remove_leftovers
    from aegaeon.engine.memory.device import Device as Device
    from aegaeon.engine.memory.device import Event as Event
    from aegaeon.engine.memory.device import Stream as Stream
    from aegaeon.engine.memory.device import open_device as open_device
    from aegaeon.engine.memory.fake import FakeDevice as FakeDevice
    from aegaeon.engine.memory.kv_arena import KvArena as KvArena
    from aegaeon.engine.memory.kv_arena import KvLayout as KvLayout
    from aegaeon.engine.memory.kv_arena import Segment as Segment
    from aegaeon.engine.memory.kv_pool import KvPool as KvPool
    from aegaeon.engine.memory.layout import WeightLayout as WeightLayout
    from aegaeon.engine.memory.shared import SharedDirectory as SharedDirectory
    from aegaeon.engine.memory.weights import HostWeights as HostWeights
    from aegaeon.engine.memory.weights import WeightCache as WeightCache
    from aegaeon.slabs import PoolFull as PoolFull
    from aegaeon.slabs import ShapeUse as ShapeUse

_HOME = {
    "Activation": "arena",
    "Device": "device",
    "Event": "device",
    "FakeDevice": "fake",
    "HostWeights": "weights",
    "KvArena": "kv_arena",
    "KvLayout": "kv_arena",
    "KvPool": "kv_pool",
    "PoolFull": "kv_pool",
    "Segment": "kv_arena",
    "ShapeUse": "kv_pool",
    "SharedDirectory": "shared",
    "Stream": "device",
    "WeightArena": "arena",
    "WeightCache": "weights",
    "WeightLayout": "layout",
    "open_device": "device",
    "remove_leftovers": "cleanup",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
