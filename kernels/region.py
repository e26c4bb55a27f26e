"""Equally spaced chunks: a form of copy for every stride order of a KV cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

Dim = tuple[int, int]
"""Size and stride in bytes of one dimension."""


@dataclass(frozen=True, slots=True)
class Region:
    """Equally spaced chunks of every block, in one allocation; all lengths in bytes.

    Chunk (i, j, …) of block b starts at the first byte of tensor `tensor` + b * `block_stride`
    + i * `strides[0]` + j * `strides[1]` …. In a slab, the chunks begin at `slab_offset` and have
    no gaps.
    """

    tensor: int
    block_stride: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    chunk: int
    slab_offset: int = 0

    @classmethod
    def of(cls, tensor: int, block_stride: int, dims: Iterable[Dim]) -> Region:
        """Return the region of `dims`; neighbouring dimensions become one if one stride suffices.

        `dims` has the outermost dimension first and the bytes last.
        """
        folded: list[Dim] = []
        for size, stride in dims:
            if folded and folded[-1][1] == size * stride:
                folded[-1] = (folded[-1][0] * size, stride)
            elif size > 1 or stride == 1:
                folded.append((size, stride))
        outer, chunk = folded[:-1], folded[-1][0]
        sizes, strides = tuple(d[0] for d in outer), tuple(d[1] for d in outer)
        return cls(tensor, block_stride, sizes, strides, chunk)

    @property
    def nbytes(self) -> int:
        """Bytes of one block in this region."""
        return prod(self.sizes) * self.chunk

    @property
    def dense(self) -> tuple[int, ...]:
        """Strides in bytes of the chunks within a slab."""
        return tuple(prod(self.sizes[i + 1 :]) * self.chunk for i in range(len(self.sizes)))

    def repeated(self, count: int, gap: int) -> Region:
        """Return one region of `count` copies of this region, `gap` bytes apart."""
        if count == 1:
            return self
        return Region.of(self.tensor, self.block_stride, [(count, gap), *self._dims()])

    def overlaps(self, blocks: int) -> bool:
        """Return whether two chunks of `blocks` blocks may share bytes."""
        reach = 0
        dims = [*self._dims(), (blocks, self.block_stride)]
        for size, stride in sorted(dims, key=lambda dim: dim[1]):
            if size > 1 and stride <= reach:
                return True
            reach += (size - 1) * stride
        return False

    def _dims(self) -> list[Dim]:
        return [*zip(self.sizes, self.strides, strict=True), (self.chunk, 1)]


def join(regions: Sequence[Region], places: Sequence[tuple[int, int]]) -> tuple[Region, ...]:
    """Join neighbouring regions that are alike and equally spaced, and give each a slab offset.

    `regions` has one region per tensor. `places` has each tensor's pair of storage address and
    address of the first byte.
    """
    joined: list[Region] = []
    start = 0
    for stop in range(1, len(regions) + 1):
        if stop < len(regions) and _continues(regions, places, start, stop):
            continue
        gap = places[stop - 1][1] - places[stop - 2][1] if stop - start > 1 else 0
        region = regions[start].repeated(stop - start, gap)
        offset = joined[-1].slab_offset + joined[-1].nbytes if joined else 0
        joined.append(replace(region, slab_offset=offset))
        start = stop
    return tuple(joined)


def _continues(
    regions: Sequence[Region], places: Sequence[tuple[int, int]], start: int, index: int
) -> bool:
    """Return whether tensor `index` continues the equally spaced tensors from `start` on."""
    gap = places[index][1] - places[index - 1][1]
    return (
        replace(regions[index], tensor=start) == regions[start]
        and places[index][0] == places[start][0]
        and gap > 0
        and (index == start + 1 or gap == places[start + 1][1] - places[start][1])
    )
