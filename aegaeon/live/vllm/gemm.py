"""Which kernel multiplies by a CPU layer's weights, and where the weights lie.

vLLM repacks weights into private memory of oneDNN, which a switch cannot reach. vLLM's kernel for
small layers takes packed weights as an ordinary tensor of the weight's own shape, for layers of any
size. Here that tensor replaces the weight, so it lies in the arena and in the host cache.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from vllm import _custom_ops as ops
from vllm.model_executor.layers import utils as layer_utils
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.platforms import current_platform

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_DISPATCH = "dispatch_cpu_unquantized_gemm"
# The kernel's tile: rows of the weight, and inputs (in pairs).
_ROWS, _INPUTS = 16, 32


def weight_form(config: VllmConfig) -> str:
    """Name the form in which a model's layers keep weights here; "" is the checkpoint's own form.

    Models with adapters or quantization have other kernels. Processors without products of 16 bits
    in hardware have no packed kernel.
    """
    plain = config.quant_config is not None or config.lora_config is not None
    if plain or config.model_config.dtype is not torch.bfloat16 or not _has_kernel():
        return ""
    return "bf16-pairs"


@contextlib.contextmanager
def plain_gemm() -> Iterator[None]:
    """Let the layers of models that are made meanwhile multiply by unpacked weights."""
    with _layers_made():
        yield


@contextlib.contextmanager
def packed_gemm(loaded: bool = True) -> Iterator[None]:
    """Let the layers of models that are made meanwhile multiply by packed weights where possible.

    Weights that are `loaded` are packed at once. Other weights are left as they are: packed bytes
    from the host cache will replace them.
    """
    with _layers_made() as layers:
        yield
    for layer in _packable(layers):
        layer.cpu_linear = packed_linear
        if loaded:
            _pack(layer)


def pack_again(module: torch.nn.Module) -> None:
    """Pack weights that a checkpoint has overwritten, in the layers that take packed weights."""
    for layer in module.modules():
        if getattr(layer, "cpu_linear", None) is packed_linear:
            _pack(layer)


def packed_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return x [..., inputs] times packed weights [outputs, inputs], plus bias [outputs]."""
    outputs = weight.shape[0]
    if not x.numel():
        # The kernel divides by the number of rows.
        return x.new_empty(*x.shape[:-1], outputs)
    # The kernel adds in 32 bits. The layer's bias itself is not widened: others may read it.
    wide = None if bias is None else bias.float()
    product: torch.Tensor = ops.weight_packed_linear_cpu(x, weight, outputs, wide)
    return product


def _has_kernel() -> bool:
    return (
        bool(current_platform.is_cpu())
        and torch.cpu._is_avx512_bf16_supported()
        and hasattr(torch.ops._C, "convert_weight_packed")
    )


def _pack(layer: torch.nn.Module) -> None:
    """Pack a layer's weight in place: a checkpoint's loader refers to the parameter."""
    with torch.no_grad():
        layer.weight.copy_(torch.ops._C.convert_weight_packed(layer.weight))


@contextlib.contextmanager
def _layers_made() -> Iterator[list[tuple[torch.nn.Module, bool]]]:
    """Make layers plain; yield a list of them, each with whether only products read its weight."""
    made: list[tuple[torch.nn.Module, bool]] = []

    def plain(layer: torch.nn.Module, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear
        made.append((layer, remove_weight or isinstance(layer, ParallelLMHead)))

    original: Callable[..., None] = getattr(layer_utils, _DISPATCH)
    setattr(layer_utils, _DISPATCH, plain)
    try:
        yield made
    finally:
        setattr(layer_utils, _DISPATCH, original)


def _packable(made: Iterable[tuple[torch.nn.Module, bool]]) -> Iterator[torch.nn.Module]:
    """Yield the layers whose weight has a shape that the kernel takes, and no other reader.

    A head that shares its weight with the embedding stays unpacked: a second copy would make every
    switch longer.
    """
    made = list(made) if _has_kernel() else []
    uses = Counter([layer.weight.untyped_storage().data_ptr() for layer, _ in made])
    for layer, products_only in made:
        weight = layer.weight
        alone = products_only and uses[weight.untyped_storage().data_ptr()] == 1
        if alone and weight.dtype is torch.bfloat16 and weight.dim() == 2 and not weight.is_meta:
            rows, inputs = weight.shape
            if weight.is_contiguous() and not (rows % _ROWS or inputs % _INPUTS):
                yield layer
