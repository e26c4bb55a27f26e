"""The memory of one device, shared by all its shells: weight arena, KV arena, and their host sides.

Knows no vLLM: an engine's worker brings its module and its KV layout, the instance activates one
model at a time (paper section 5).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from aegaeon.engine.kv_store import KvStore
from aegaeon.engine.memory.arena import WeightArena
from aegaeon.engine.memory.device import Device
from aegaeon.engine.memory.kv_arena import KvArena
from aegaeon.engine.memory.kv_pool import KvPool
from aegaeon.engine.memory.layout import WeightLayout
from aegaeon.engine.memory.weights import HostWeights, WeightCache


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of model: `prefetched` says whether the bytes were on the device already."""

    model: str
    seconds: float
    nbytes: int
    prefetched: bool


class DevicePool:
    """`weight_slots` slots of `slot_bytes` for weights and `kv_bytes` for KV on one device.

    `turns` counts the changes of model.
    """

    def __init__(
        self,
        device: Device,
        cache: WeightCache,
        host_kv: KvPool,
        *,
        slot_bytes: int,
        kv_bytes: int,
        weight_slots: int = 1,
    ) -> None:
        self.device = device
        self.kv = KvArena(device, kv_bytes)
        self.kv_bytes = kv_bytes
        self.store = KvStore(device, self.kv, host_kv)
        self._weights = WeightArena(device, slot_bytes, weight_slots)
        self._cache = cache
        self._host: dict[str, HostWeights] = {}
        self.turns = 0

    @property
    def active(self) -> str | None:
        """The model whose weights are in place."""
        return self._weights.active

    def bind(self, model: str, checkpoint: Path, module: torch.nn.Module) -> None:
        """Lend a loaded module its place: its tensors become views of the arena, and active.

        Its bytes are packed into the node's host cache unless an equal copy is there. Raises
        UserError if the model does not fit.
        """
        layout = WeightLayout.of(module)
        host = self._cache.get(checkpoint, layout)
        if host is None:
            host = self._cache.put(checkpoint, layout, layout.pack(module))
        try:
            self._weights.bind(model, module, layout)
        except Exception:
            host.close()
            raise
        self._host[model] = host
        self.activate(model)

    def activate(self, model: str) -> Switch | None:
        """Put a model's weights in place and wait until they are; None if they were active."""
        if model == self._weights.active:
            return None
        self.turns += 1
        began = time.perf_counter()
        done = self._weights.switch(model, self._host[model].bytes)
        # The first step would wait for the copy anyway; waiting here measures it.
        done.ready.synchronize()
        seconds = time.perf_counter() - began
        return Switch(model, seconds, done.nbytes, done.source == "slot")

    def prefetch(self, model: str) -> None:
        """Start bringing a model's weights to the spare slot."""
        self._weights.prefetch(model, self._host[model].bytes)

    def close(self) -> None:
        """Let the host cache evict what this device used."""
        for host in self._host.values():
            host.close()
        self._host.clear()
