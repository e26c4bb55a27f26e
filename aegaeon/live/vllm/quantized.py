"""What quantized layers keep outside of their parameters, and therefore outside of the arena."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from vllm import _custom_ops as ops


@contextlib.contextmanager
def handlers_keep_scales() -> Iterator[None]:
    """Give oneDNN's int8 layers private copies of their scales.

    Such a layer has a handler in C++, which holds a packed copy of the weight and the address of
    the scales. The tensor that vLLM passes is freed when the parameter becomes a view of the arena.
    """
    name = "create_onednn_scaled_mm"
    original: Callable[..., object] = getattr(ops, name)

    def create(weight: torch.Tensor, scales: torch.Tensor, *rest: object) -> object:
        own = scales.detach().clone()
        handler = original(weight, own, *rest)
        handler.scales = own  # type: ignore[attr-defined]
        return handler

    setattr(ops, name, create)
    try:
        yield
    finally:
        setattr(ops, name, original)
