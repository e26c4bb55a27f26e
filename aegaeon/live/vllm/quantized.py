"""What quantized layers keep outside their parameters, where no arena reaches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from vllm import _custom_ops as ops


@contextlib.contextmanager
def handlers_keep_scales() -> Iterator[None]:
    """Give oneDNN's int8 layers scales of their own.

    Such a layer has a handler in C++ with a packed copy of the weight and the address of its
    scales: those that vLLM passes are gone once the parameter has become a view of the arena.
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
