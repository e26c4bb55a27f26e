"""vLLM's worker on a device pool's memory."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from vllm.distributed.kv_transfer.kv_transfer_state import ensure_kv_transfer_shutdown
from vllm.model_executor.layers import rotary_embedding
from vllm.platforms import current_platform
from vllm.v1.kv_cache_layout import KVCacheLayout

from aegaeon.live.instance.device_pool import DevicePool
from aegaeon.live.instance.kv_store import carve
from aegaeon.live.memory.kv_arena import KvLayout, Segment
from aegaeon.live.vllm.gemm import packed_gemm, plain_gemm, weight_form
from aegaeon.live.vllm.loading import (
    keeps_private_tensors,
    may_stay_unloaded,
    nothing_loaded,
)
from aegaeon.live.vllm.quantized import handlers_keep_scales

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as PlatformWorker
else:
    from vllm.v1.worker.gpu_worker import Worker as PlatformWorker

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.kv_cache_interface import KVCacheConfig

KEY = "aegaeon"
_leases: dict[str, Lease] = {}


@dataclass
class Lease:
    """What an engine borrows on one rank while it is alive; a worker finds it by its key."""

    name: str
    path: Path
    pool: DevicePool
    key: str = ""
    block_pool: BlockPool | None = None

    def __post_init__(self) -> None:
        # No other pool of this process uses it.
        self.key = self.key or f"{self.name}@{id(self.pool):x}"


@contextlib.contextmanager
def leasing(lease: Lease) -> Iterator[None]:
    """Let the workers that are made meanwhile find what they borrow."""
    _leases[lease.key] = lease
    try:
        yield
    finally:
        del _leases[lease.key]


def lease_of(config: VllmConfig) -> Lease:
    """Return what an engine with this configuration borrows."""
    return _leases[config.additional_config[KEY]]


def collect(config: VllmConfig | None) -> None:
    """Free what an engine that is gone has left; its parts refer to one another."""
    if config is not None:
        config.compilation_config.static_forward_context.clear()
    # vLLM hides all that exists from the collector whenever an engine is made.
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class EngineWorker(PlatformWorker):  # type: ignore[misc]
    """A vLLM worker whose parameters and KV cache are views of a device pool."""

    def __init__(self, vllm_config: VllmConfig, *args: object, **kwargs: object) -> None:
        super().__init__(vllm_config, *args, **kwargs)
        self._lease = lease_of(vllm_config)

    def load_model(self, **kwargs: object) -> None:
        """Load as vLLM does, unless the node's cache has a copy; move every tensor to the arena."""
        lease = self._lease
        cached = lease.pool.has_copies(lease.path, weight_form(self.vllm_config))
        if cached and may_stay_unloaded(self.vllm_config):
            with nothing_loaded(self.vllm_config):
                self._make_model(loaded=False, **kwargs)
            if self._bind(loaded=False):
                return
            self.vllm_config.compilation_config.static_forward_context.clear()
        self._make_model(loaded=True, **kwargs)
        self._bind(loaded=True)

    def _make_model(self, loaded: bool, **kwargs: object) -> None:
        # vLLM shares rotary tables between models; a tensor can only lie in one model's range.
        rotary_embedding._ROPE_DICT.clear()
        kernels = packed_gemm(loaded) if weight_form(self.vllm_config) else plain_gemm()
        with kernels, handlers_keep_scales():
            super().load_model(**kwargs)
        rotary_embedding._ROPE_DICT.clear()

    def _bind(self, loaded: bool) -> bool:
        lease, model = self._lease, self.model_runner.model
        if not loaded and keeps_private_tensors(model):
            return False
        form = weight_form(self.vllm_config)
        return lease.pool.bind(lease.name, lease.path, model, loaded, form)

    def determine_available_memory(self) -> int:
        """Return the KV arena's size: it is reserved already, for all engines together."""
        if not current_platform.is_cpu():
            super().determine_available_memory()
        return self._lease.pool.kv_bytes

    def get_supported_kv_cache_layouts(self) -> list[str]:
        """Prefer layouts that keep a block's layers together, so that it is one range of bytes."""
        if current_platform.is_cpu():
            # The kernels take any stride between blocks, though the backend only names one layout.
            return [KVCacheLayout.BLHNC.name]
        names: list[str] = super().get_supported_kv_cache_layouts()
        return sorted(names, key=lambda name: not KVCacheLayout[name].is_block_outermost)

    def initialize_from_config(self, kv_cache_config: KVCacheConfig) -> None:
        """Take the KV cache from the arena and tell the store where each block lies."""
        super().initialize_from_config(kv_cache_config)
        # The worker side of a connector is one per process, which other engines would trip over;
        # ours has nothing to do.
        ensure_kv_transfer_shutdown()
        lease = self._lease
        lease.pool.store.add(lease.name, _kv_layout(kv_cache_config))

    def _maybe_get_memory_pool_context(self, tag: str) -> AbstractContextManager[object]:
        if tag == "kv_cache":
            return _KvFromArena(self._lease)
        context: AbstractContextManager[object] = super()._maybe_get_memory_pool_context(tag)
        return context


class _KvFromArena(TorchFunctionMode):  # type: ignore[misc]
    """vLLM allocates its KV cache with one `torch.zeros` of int8: answer with the arena's bytes."""

    def __init__(self, lease: Lease) -> None:
        super().__init__()
        self._lease = lease

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func is torch.zeros and kwargs.get("dtype") is torch.int8:
            return carve(self._lease.pool.kv, self._lease.name, args[0])
        return func(*args, **kwargs)


def _kv_layout(config: KVCacheConfig) -> KvLayout:
    first = config.kv_cache_tensors[0]
    if first.block_stride > first.layer_stride or len(first.layers) == 1:
        # Block-outermost: cache groups overlay each other, and a block has one owner at a time.
        return KvLayout(config.num_blocks, (Segment(0, first.block_stride, first.block_stride),))
    layouts = [
        KvLayout.of_layers(
            config.num_blocks,
            t.block_stride,
            len(t.layers),
            t.layer_stride,
            t.block_stride,
            t.offset,
        )
        for t in config.kv_cache_tensors
    ]
    joined = layouts[0]
    for layout in layouts[1:]:
        joined = joined + layout
    return joined
