"""How an engine's weights get into its module: from the checkpoint, or not at all.

If the node's host cache has an engine's packed weights, the engine reads no checkpoint. vLLM makes
the module with uninitialized tensors; these become views of the arena, which the cache fills.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig

_NOTHING = "aegaeon-nothing"


@register_model_loader(_NOTHING)
class _NothingLoader(BaseModelLoader):  # type: ignore[misc]
    """Loads nothing. vLLM's dummy loader writes random numbers, which takes as long as reading."""

    def download_model(self, model_config: ModelConfig) -> None:
        """Do nothing."""

    def load_weights(self, model: torch.nn.Module, model_config: ModelConfig) -> None:
        """Do nothing."""


@contextlib.contextmanager
def nothing_loaded(config: VllmConfig) -> Iterator[None]:
    """Make vLLM leave a model's tensors as they were allocated."""
    load = config.load_config
    before, load.load_format = load.load_format, _NOTHING
    try:
        yield
    finally:
        load.load_format = before


def may_stay_unloaded(config: VllmConfig) -> bool:
    """Return whether a model's packed tensors are all that loading gives it.

    Quantized layers also keep values derived from their weights outside of parameters and buffers.
    """
    return config.quant_config is None and config.lora_config is None


def keeps_private_tensors(module: torch.nn.Module) -> bool:
    """Return whether a layer keeps tensors that are neither parameters nor buffers.

    Such a tensor may be derived from weights (absorbed projections, for example), and a packed copy
    of the parameters would miss it. One-element tensors are ignored: they are quantization scales,
    which `may_stay_unloaded` excludes.
    """
    own = {t.untyped_storage().data_ptr() for t in [*module.parameters(), *module.buffers()]}
    return any(
        tensor.dim() and tensor.numel() and tensor.untyped_storage().data_ptr() not in own
        for layer in module.modules()
        for tensor in _plain_tensors(layer)
    )


def _plain_tensors(layer: torch.nn.Module) -> Iterable[torch.Tensor]:
    """Yield tensors among a layer's attributes, and among those of its attention backend."""
    for holder in (layer, getattr(layer, "impl", None)):
        for value in vars(holder).values() if hasattr(holder, "__dict__") else ():
            if isinstance(value, torch.Tensor):
                yield value
