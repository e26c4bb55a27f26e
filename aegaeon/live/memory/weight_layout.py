"""Where each parameter and buffer of a module lies in one packed range of bytes.

Tensors that overlap in memory (tied weights, views of one storage) are packed once, as the range of
storage that they cover together. Strides are kept, so kernels see the tensors as the loader made
them. A bump pointer assigns the offsets (paper section 5.2).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from aegaeon.errors import UserError

ALIGN = 256


def align_up(nbytes: int) -> int:
    """Return `nbytes` rounded up to a multiple of ALIGN."""
    return -(-nbytes // ALIGN) * ALIGN


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """One named tensor: element type, shape, strides in elements, offset in the packed bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def view(self, packed: torch.Tensor) -> torch.Tensor:
        """Return this tensor as a view of `packed`, uint8, which begins at an aligned byte."""
        dtype = getattr(torch, self.dtype)
        start = (packed.storage_offset() + self.offset) // dtype.itemsize
        empty = torch.empty(0, dtype=dtype, device=packed.device)
        return empty.set_(packed.untyped_storage(), start, self.shape, self.stride)


@dataclass(frozen=True)
class WeightLayout:
    """Fixed offsets of a module's tensors; models of one architecture have equal layouts."""

    tensors: tuple[PackedTensor, ...]
    nbytes: int

    @classmethod
    def of(cls, module: torch.nn.Module) -> WeightLayout:
        """Lay out the parameters and buffers on the device of the module's first tensor.

        Buffers on other devices (host-side tables) are ignored. Raises UserError for tensors
        without plain strided storage (sparse, meta, wrapper subclasses).
        """
        return _arrange(named_tensors(module))[0]

    @cached_property
    def digest(self) -> str:
        """Hash of names, types, shapes, strides and offsets: equal digests mean equal packing."""
        text = json.dumps([self.nbytes, [asdict(tensor) for tensor in self.tensors]])
        return hashlib.sha256(text.encode()).hexdigest()

    def pack(self, module: torch.nn.Module, out: torch.Tensor | None = None) -> torch.Tensor:
        """Copy the module's bytes into `out`, uint8 [nbytes] on the host, and return it."""
        layout, spans = _arrange(named_tensors(module))
        if layout != self:
            raise ValueError("the module's tensors differ from this layout; make a new one")
        packed = torch.zeros(self.nbytes, dtype=torch.uint8) if out is None else out
        for span in spans:
            packed[span.offset : span.offset + span.nbytes].copy_(span.bytes())
        return packed


def named_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers on the first one's device, tied ones under each name."""
    named: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False))
    named.update(module.named_buffers(remove_duplicate=False))
    if not named:
        raise ValueError(f"{type(module).__name__} has neither parameters nor buffers")
    device = next(iter(named.values())).device
    return {name: tensor for name, tensor in named.items() if tensor.device == device}


@dataclass(slots=True)
class _Span:
    """Bytes [start, end) of a storage, packed at `offset`; `start` and `offset` are aligned."""

    storage: torch.UntypedStorage
    start: int
    end: int
    offset: int = 0

    @property
    def nbytes(self) -> int:
        return self.end - self.start

    def bytes(self) -> torch.Tensor:
        empty = torch.empty(0, dtype=torch.uint8, device=self.storage.device)
        return empty.set_(self.storage, self.start, (self.nbytes,), (1,))


def _first_byte(tensor: torch.Tensor) -> int:
    return int(tensor.storage_offset() * tensor.itemsize)


def _cover(tensor: torch.Tensor) -> _Span:
    first = _first_byte(tensor)
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    elements = 1 + sum([(size - 1) * stride for size, stride in steps])
    end = first + elements * tensor.itemsize
    return _Span(tensor.untyped_storage(), first // ALIGN * ALIGN, end)


def _merge(spans: Iterable[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for span in sorted(spans, key=lambda span: span.start):
        if merged and span.start < merged[-1].end:
            merged[-1].end = max(merged[-1].end, span.end)
        else:
            merged.append(span)
    return merged


def _arrange(named: dict[str, torch.Tensor]) -> tuple[WeightLayout, list[_Span]]:
    covers: dict[int, list[_Span]] = {}
    for name, tensor in named.items():
        _check_plain(name, tensor)
        if tensor.numel():
            covers.setdefault(tensor.untyped_storage().data_ptr(), []).append(_cover(tensor))
    by_storage = {pointer: _merge(spans) for pointer, spans in covers.items()}
    spans = [span for spans in by_storage.values() for span in spans]
    top = 0
    for span in spans:
        span.offset, top = top, align_up(top + span.nbytes)
    tensors = tuple([_pack_one(name, tensor, by_storage) for name, tensor in named.items()])
    return WeightLayout(tensors, max(top, ALIGN)), spans


def _pack_one(name: str, tensor: torch.Tensor, by_storage: dict[int, list[_Span]]) -> PackedTensor:
    offset = 0
    if tensor.numel():
        first = _first_byte(tensor)
        spans = by_storage[tensor.untyped_storage().data_ptr()]
        home = next(span for span in spans if span.start <= first < span.end)
        offset = home.offset + first - home.start
    dtype = str(tensor.dtype).removeprefix("torch.")
    return PackedTensor(name, dtype, tuple(tensor.shape), tuple(tensor.stride()), offset)


def _check_plain(name: str, tensor: torch.Tensor) -> None:
    if is_traceable_wrapper_subclass(tensor) or tensor.layout != torch.strided:
        kind = f"{type(tensor).__name__} with layout {tensor.layout}"
    elif tensor.is_meta:
        kind = "a meta tensor without bytes"
    else:
        return
    raise UserError(
        f"weight {name}: {kind} cannot be packed; expected a plain strided tensor "
        "(load the weights first, or use a quantization format that stores plain tensors)"
    )
