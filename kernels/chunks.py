"""The addresses of all chunks of a block, for copies that take raw pointers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod

import numpy as np
from numpy.typing import NDArray

from kernels.layout import KvLayout


@dataclass(frozen=True, slots=True)
class ChunkTable:
    """The chunks of a block, all of `unit` bytes.

    Chunk i of a block is bytes [i * unit, (i + 1) * unit) of the block's slab.

    Attributes:
        unit: bytes of a chunk.
        align: a power of two up to 16 that divides `unit` and all values of both arrays.
        addresses: int64 (chunks,), the address of each chunk in block 0.
        block_strides: int64 (chunks,), the bytes from each chunk to the same chunk of block 1.
    """

    unit: int
    align: int
    addresses: NDArray[np.int64]
    block_strides: NDArray[np.int64]

    @classmethod
    def of(cls, layout: KvLayout, bases: Sequence[int]) -> ChunkTable:
        """Return the chunks of a cache; `bases` has the address of each tensor's first byte."""
        unit = gcd(*(region.chunk for region in layout.regions))
        align = gcd(16, unit, *(region.block_stride for region in layout.regions))
        addresses, strides = [], []
        for region in layout.regions:
            offsets = np.full((1,), bases[region.tensor], dtype=np.int64)
            dims = [*zip(region.sizes, region.strides, strict=True), (region.chunk // unit, unit)]
            for size, stride in dims:
                offsets = np.add.outer(offsets, np.arange(size, dtype=np.int64) * stride).ravel()
            addresses.append(offsets)
            count = prod(region.sizes) * region.chunk // unit
            strides.append(np.full(count, region.block_stride, dtype=np.int64))
        every = np.concatenate(addresses)
        align = gcd(align, int(np.gcd.reduce(every)))
        return cls(unit, align, every, np.concatenate(strides))
