"""The memory of one device, shared by all its engines: weight and KV arenas, and their host sides.

Knows no vLLM: an engine's worker brings its module and its KV layout, the instance activates one
model at a time (paper section 5).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from aegaeon.live.instance.kv_store import KvStore
from aegaeon.live.memory.device import Device
from aegaeon.live.memory.kv_arena import KvArena
from aegaeon.live.memory.kv_pool import KvPool
from aegaeon.live.memory.weight_arena import WeightArena
from aegaeon.live.memory.weight_cache import HostWeights, WeightCache
from aegaeon.live.memory.weight_layout import WeightLayout
from aegaeon.live.tp.group import RankGroup


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of model: `prefetched` says whether the bytes were on the device already."""

    model: str
    seconds: float
    nbytes: int
    prefetched: bool


class DevicePool:
    """`weight_slots` slots of `slot_bytes` for weights and `kv_bytes` for KV on one device.

    `turns` counts the changes of model. In a tensor-parallel instance each rank's process has one;
    that of rank 0 has the `ranks`, and what it does the others do as well.
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
        rank: int = 0,
        size: int = 1,
        ranks: RankGroup | None = None,
    ) -> None:
        self.device = device
        self.ranks = ranks or RankGroup()
        self.kv = KvArena(device, kv_bytes)
        self.kv_bytes = kv_bytes
        self.store = KvStore(device, self.kv, host_kv, rank, self.ranks)
        self._variant = f"tp{rank}of{max(size, self.ranks.size)}"
        self._weights = WeightArena(device, slot_bytes, weight_slots)
        self._cache = cache
        self._host: dict[str, HostWeights] = {}
        self._agreed = True
        self.turns = 0

    @property
    def active(self) -> str | None:
        """The model whose weights are in place, on all ranks."""
        return self._weights.active if self._agreed else None

    def has_copies(self, checkpoint: Path, form: str = "") -> bool:
        """Return whether the node's host cache may have this rank's weights packed, in a form."""
        return self._cache.has_copies(checkpoint, f"{self._variant} {form}")

    def bind(
        self,
        model: str,
        checkpoint: Path,
        module: torch.nn.Module,
        loaded: bool,
        form: str = "",
    ) -> bool:
        """Lend a module its place: its tensors become views of the arena, and active.

        If it is `loaded`, its bytes are packed into the node's host cache unless an equal copy is
        there. If not, they come from that copy; without one, nothing is done and False returned.
        `form` tells apart bytes of one layout that different kernels take. Raises UserError if the
        model does not fit.
        """
        layout, variant = WeightLayout.of(module), f"{self._variant} {form}"
        if loaded:
            host = self._cache.pack(checkpoint, layout, module, variant)
        else:
            found = self._cache.get(checkpoint, layout, variant)
            if found is None:
                return False
            host = found
        try:
            self._weights.bind(model, module, layout)
        except Exception:
            host.close()
            raise
        self._host[model] = host
        self._activate(model)
        return True

    def activate(self, model: str) -> Switch | None:
        """Put a model's weights in place and wait until they are; None if they were active."""
        if model == self.active:
            return None
        if self.ranks.size == 1:
            return self._activate(model)
        began = time.perf_counter()
        parts = self.ranks.call("activate", model, local=lambda: self._activate(model))
        seconds, self._agreed = time.perf_counter() - began, True
        nbytes = sum([part.nbytes for part in parts])
        return Switch(model, seconds, nbytes, all(part.prefetched for part in parts))

    def _activate(self, model: str) -> Switch:
        self.turns += 1
        began = time.perf_counter()
        done = self._weights.switch(model, self._host[model].bytes)
        # The first step would wait for the copy anyway; waiting here measures it.
        done.ready.synchronize()
        seconds = time.perf_counter() - began
        return Switch(model, seconds, done.nbytes, done.source == "slot")

    def prefetch(self, model: str) -> None:
        """Start bringing a model's weights to the spare slot."""
        host = self._host[model].bytes
        self.ranks.post("prefetch", model, local=lambda: self._weights.prefetch(model, host))

    def remove(self, model: str) -> None:
        """Forget a model on this rank, wherever its making or its life has come to."""
        self.store.remove(model)
        # What failed halfway may have become active on some ranks only.
        self._agreed = self.ranks.size == 1
        host = self._host.pop(model, None)
        if host is not None:
            self._weights.unbind(model)
            host.close()

    def close(self) -> None:
        """Let the host cache evict what this device used."""
        for host in self._host.values():
            host.close()
        self._host.clear()
