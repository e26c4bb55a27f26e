"""The memory of one device, which all its engines share: weight and KV arenas, their host sides.

No code here knows vLLM. An engine's worker brings its module and its KV cache; the instance
activates one model at a time (paper section 5).
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
from aegaeon.live.tp.messages import Activate, Prefetch


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of model: `prefetched` says whether the bytes were on the device already."""

    model: str
    seconds: float
    nbytes: int
    prefetched: bool


@dataclass(frozen=True, slots=True)
class _Model:
    """A model whose tensors are views of the weight arena, and its packed bytes on the host."""

    module: torch.nn.Module
    host: HostWeights


class DevicePool:
    """`weight_slots` slots of `slot_bytes` for weights and `kv_bytes` for KV on one device.

    `switches` counts the changes of model. In a tensor-parallel instance each rank's process has a
    pool; that of rank 0 has the `ranks`, which repeat what it does.
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
        self.host_kv = host_kv
        self.ranks = ranks or RankGroup()
        self.kv = KvArena(device, kv_bytes)
        self.kv_bytes = kv_bytes
        self.store = KvStore(device, self.kv, host_kv, rank, self.ranks)
        self._variant = f"tp{rank}of{max(size, self.ranks.size)}"
        self._weights = WeightArena(device, slot_bytes, weight_slots)
        self._cache = cache
        self._models: dict[str, _Model] = {}
        self._agreed = True
        self.switches = 0

    @property
    def active(self) -> str | None:
        """The model whose weights are in place, on all ranks."""
        return self._weights.active if self._agreed else None

    def module(self, model: str) -> torch.nn.Module:
        """Return this rank's module of a model; its tensors are views of the weight arena."""
        return self._models[model].module

    def packed(self, model: str) -> torch.Tensor:
        """Return this rank's weights of a model in the host cache, uint8 [nbytes]."""
        return self._models[model].host.bytes

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
        """Make a module's tensors views of the weight arena, and the model active.

        The bytes of a `loaded` module are packed into the node's host cache unless an equal copy is
        there. A module that is not loaded gets its bytes from that copy; without one, nothing is
        done and False returned. `form` names the order of elements that the module's kernels take,
        which a layout does not tell. Raises UserError if the model does not fit.
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
        self._models[model] = _Model(module, host)
        self._activate(Activate(model))
        return True

    def activate(self, model: str) -> Switch | None:
        """Put a model's weights in place and wait for them; None if they were active."""
        if model == self.active:
            return None
        began = time.perf_counter()
        parts = self.ranks.call(Activate(model), self._activate)
        seconds, self._agreed = time.perf_counter() - began, True
        nbytes = sum([part.nbytes for part in parts])
        return Switch(model, seconds, nbytes, all(part.prefetched for part in parts))

    def prefetch(self, model: str) -> None:
        """Start a copy of a model's weights to the spare slot."""
        self.ranks.post(Prefetch(model), self._prefetch)

    def remove(self, model: str) -> None:
        """Forget a model on this rank; a model that was made only in part is forgotten as well."""
        self.store.remove(model)
        # A call that failed may have made the model active on some ranks only.
        self._agreed = self.ranks.size == 1
        known = self._models.pop(model, None)
        if known is not None:
            self._weights.unbind(model)
            known.host.close()

    def close(self) -> None:
        """Let the host cache evict what this device used."""
        for known in self._models.values():
            known.host.close()
        self._models.clear()

    def _activate(self, call: Activate) -> Switch:
        self.switches += 1
        began = time.perf_counter()
        done = self._weights.switch(call.model, self.packed(call.model))
        # The first step would wait for the copy anyway; waiting here measures it.
        done.ready.synchronize()
        seconds = time.perf_counter() - began
        return Switch(call.model, seconds, done.nbytes, done.source == "slot")

    def _prefetch(self, call: Prefetch) -> None:
        self._weights.prefetch(call.model, self.packed(call.model))
