"""vLLM's worker on a device pool's memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from vllm.distributed.kv_transfer.kv_transfer_state import ensure_kv_transfer_shutdown
from vllm.model_executor.layers import rotary_embedding
from vllm.platforms import current_platform
from vllm.v1.kv_cache_layout import KVCacheLayout

from aegaeon.live.memory.kv_cache import KvCache, layer_views
from aegaeon.live.vllm.gemm import packed_gemm, plain_gemm, weight_form
from aegaeon.live.vllm.lease import Lease, lease_of
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
    from vllm.v1.kv_cache_interface import KVCacheConfig


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
        # The worker side of a KV connector is process-wide: a second engine would refuse to start.
        # The worker side of ours has nothing to do.
        ensure_kv_transfer_shutdown()
        pool = self._lease.pool
        pool.store.add(self._lease.name, _kv_cache(kv_cache_config, pool.kv.bytes))

    def _maybe_get_memory_pool_context(self, tag: str) -> AbstractContextManager[object]:
        if tag == "kv_cache":
            return _KvFromArena(self._lease)
        context: AbstractContextManager[object] = super()._maybe_get_memory_pool_context(tag)
        return context


class _KvFromArena(TorchFunctionMode):  # type: ignore[misc]
    """Answers vLLM's allocation of a KV cache, one int8 `torch.zeros`, with the arena's bytes."""

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
            return self._lease.pool.kv.carve(self._lease.name, args[0]).view(torch.int8)
        return func(*args, **kwargs)


def _kv_cache(config: KVCacheConfig, arena: torch.Tensor) -> KvCache:
    """Return where in the arena's bytes vLLM has placed each block of the KV cache."""
    blocks, first = config.num_blocks, config.kv_cache_tensors[0]
    if first.block_stride > first.layer_stride or len(first.layers) == 1:
        # Block-outermost: cache groups overlay each other, and a block has one owner at a time.
        return KvCache.of(layer_views(arena, blocks, first.block_stride, 1, 0, first.block_stride))
    layers = [
        view
        for t in config.kv_cache_tensors
        for view in layer_views(
            arena,
            blocks,
            t.block_stride,
            len(t.layers),
            t.layer_stride,
            t.block_stride,
            t.offset,
        )
    ]
    return KvCache.of(layers)
