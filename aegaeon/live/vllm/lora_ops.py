"""vLLM's LoRA operations on a CPU, with a fault corrected."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from vllm.lora.ops.torch_ops import lora_ops
from vllm.lora.punica_wrapper import punica_cpu

if TYPE_CHECKING:
    import torch

_OPERATIONS = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")


@cache
def leave_tokens_without_adapter() -> None:
    """Make vLLM's operations leave tokens without an adapter as they are, in this process.

    A rank calls this before it makes a worker that takes adapters; later calls do nothing.
    """
    for name in _OPERATIONS:
        corrected = _corrected(getattr(lora_ops, name))
        for module in (lora_ops, punica_cpu):
            setattr(module, name, corrected)


def _corrected(operation: Callable[..., None]) -> Callable[..., None]:
    def run(
        inputs: torch.Tensor,
        weights: torch.Tensor,
        output: torch.Tensor,
        slots: torch.Tensor,
        *rest: object,
        **more: object,
    ) -> None:
        # The slot of a token without an adapter is -1, which the operation takes for the last one.
        masked = inputs.masked_fill((slots < 0)[:, None], 0)
        operation(masked, weights, output, slots, *rest, **more)

    return run
