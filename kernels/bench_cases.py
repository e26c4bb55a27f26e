"""The cases of the benchmark: caches of real shapes, and each variant's gather and scatter."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from kernels import batched_memcpy, reference
from kernels.chunks import ChunkTable
from kernels.layout import KvLayout

Copy = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Shape:
    """A cache of `layers` layers.

    Attributes:
        moved: number of blocks that one copy moves.
        order: physical order of the dimensions in vLLM's letters; C is K and V.
        tokens: tokens per block.
        apart: one allocation (2, blocks, …) per layer with K and V apart, as before vLLM 0.32.
    """

    name: str
    layers: int
    kv_heads: int
    head_dim: int
    moved: int
    order: str = "LBHNC"
    dtype: torch.dtype = torch.float16
    tokens: int = 16
    apart: bool = False

    def tensors(self, device: torch.device) -> list[Tensor]:
        """Return one tensor per layer, with `4 * moved` blocks along dimension `block_dim`."""
        blocks = 4 * self.moved
        if self.apart:
            shape = (2, blocks, self.tokens, self.kv_heads, self.head_dim)
            return [torch.ones(shape, dtype=self.dtype, device=device) for _ in range(self.layers)]
        content = 2 * self.head_dim
        sizes = (self.layers, blocks, self.kv_heads, self.tokens, content)
        room = [sizes["LBHNC".index(dim)] for dim in self.order]
        cache = torch.ones(room, dtype=self.dtype, device=device)
        return list(cache.permute([self.order.index(dim) for dim in "LBHNC"]).unbind(0))

    @property
    def block_dim(self) -> int:
        """The dimension of a layer's tensor that counts blocks."""
        return int(self.apart)


SHAPES = (
    Shape("MHA 32 x 32 heads", 32, 32, 128, moved=8),
    Shape("GQA 28 x 4 heads", 28, 4, 128, moved=64),
    Shape("GQA, tokens first", 28, 4, 128, moved=64, order="LBNHC"),
    Shape("GQA, block-outermost", 28, 4, 128, moved=64, order="BLHNC"),
    Shape("GQA, head-outermost", 28, 4, 128, moved=64, order="LHBNC"),
    Shape("GQA, K and V apart", 28, 4, 128, moved=64, apart=True),
    Shape("tiny 4 x 2 heads", 4, 2, 32, moved=256, dtype=torch.float32),
)


@dataclass(slots=True)
class Case:
    """One shape on one device: random block ids, slabs in (pinned) host memory, seed 0."""

    shape: Shape
    device: torch.device
    tensors: list[Tensor] = field(init=False)
    layout: KvLayout = field(init=False)
    ids: list[int] = field(init=False)
    slabs: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.tensors = self.shape.tensors(self.device)
        self.layout = KvLayout.of(self.tensors, self.shape.block_dim)
        self.ids = random.Random(0).sample(range(self.layout.blocks), self.shape.moved)
        size = (self.shape.moved, self.layout.block_bytes)
        pinned = self.device.type == "cuda"
        self.slabs = torch.ones(size, dtype=torch.uint8, pin_memory=pinned)

    def variants(self) -> dict[str, tuple[Copy, Copy]]:
        """Return gather and scatter of each variant that runs on the device, memcpy first."""
        found = {
            "memcpy": self._memcpy(),
            "plain copies": self._of(batched_memcpy),
            "torch reference": self._of(reference),
        }
        if self.device.type == "cuda":
            from kernels import triton_copy

            staging = torch.empty_like(self.slabs, device=self.device)
            found["Triton, zero-copy"] = self._of(triton_copy)
            found["Triton, staged"] = self._of(triton_copy, staging=staging)
            if swap := self._vllm():
                found["vLLM swap_blocks_batch"] = swap
        return found

    def _of(self, variant: object, **options: Tensor) -> tuple[Copy, Copy]:
        arguments = (self.layout, self.tensors, self.ids, self.slabs)
        gather, scatter = (getattr(variant, name) for name in ("gather", "scatter"))
        return partial(gather, *arguments, **options), partial(scatter, *arguments, **options)

    def _memcpy(self) -> tuple[Copy, Copy]:
        """One contiguous copy of the same number of bytes: on this thread, or over the link."""
        there = torch.ones_like(self.slabs, device=self.device)
        if self.device.type == "cuda":
            return (
                partial(self.slabs.copy_, there, non_blocking=True),
                partial(there.copy_, self.slabs, non_blocking=True),
            )
        target, source = self.slabs.numpy(), there.numpy()
        return partial(np.copyto, target, source), partial(np.copyto, source, target)

    def _vllm(self) -> tuple[Copy, Copy] | None:
        """vLLM's batch of copies in one driver call; the time includes the list of addresses."""
        try:
            from vllm._custom_ops import swap_blocks_batch
        except ImportError:
            return None
        table = ChunkTable.of(self.layout, [t.data_ptr() for t in self.tensors])
        ids = np.array(self.ids, dtype=np.int64)[:, None]

        def swap(*, to_slabs: bool) -> None:
            cache = torch.from_numpy((table.addresses + ids * table.block_strides).ravel())
            slab = torch.arange(len(cache)) * table.unit + self.slabs.data_ptr()
            source, target = (cache, slab) if to_slabs else (slab, cache)
            swap_blocks_batch(source, target, torch.full_like(cache, table.unit))

        return partial(swap, to_slabs=True), partial(swap, to_slabs=False)


def interleaved(copies: Mapping[str, Copy], repeats: int, cuda: bool) -> dict[str, list[float]]:
    """Return the seconds of every copy, by name: one time per round, `repeats` rounds.

    One more round comes first, to warm up.
    """
    taken: dict[str, list[float]] = {name: [] for name in copies}
    for repeat in range(repeats + 1):
        for name, copy in copies.items():
            start = time.perf_counter()
            copy()
            if cuda:
                torch.cuda.synchronize()
            if repeat:
                taken[name].append(time.perf_counter() - start)
    return taken


def ratio(taken: Mapping[str, list[float]], name: str, base: str = "memcpy") -> float:
    """Return the median over rounds of a copy's time over the time of `base` in the round."""
    return statistics.median(a / b for a, b in zip(taken[name], taken[base], strict=True))
