"""Byte views of a cache and of slabs per region, of equal shapes but for the first dimension."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kernels.layout import KvLayout
from kernels.region import Region


def paired(
    layout: KvLayout, tensors: Sequence[Tensor], slabs: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield two uint8 views per region: of the cache and of the slabs.

    The shapes are (blocks, *sizes, chunk) and (rows, *sizes, chunk).
    """
    for region in layout.regions:
        slab = slabs.as_strided(
            (len(slabs), *region.sizes, region.chunk),
            (slabs.stride(0), *region.dense, 1),
            slabs.storage_offset() + region.slab_offset,
        )
        yield blocks_of(layout, region, tensors), slab


def joined(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the bytes of a cache as one uint8 view (blocks, *sizes, chunk) per region.

    The layout of these views has the regions of the tensors' layout, and fewer planes to check.
    """
    layout = KvLayout.of(tensors)
    return [blocks_of(layout, region, tensors) for region in layout.regions]


def blocks_of(layout: KvLayout, region: Region, tensors: Sequence[Tensor]) -> Tensor:
    """Return the bytes of all blocks in a region, uint8 (blocks, *sizes, chunk)."""
    tensor = tensors[region.tensor]
    storage = tensor.untyped_storage()
    raw = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)
    return raw.as_strided(
        (layout.blocks, *region.sizes, region.chunk),
        (region.block_stride, *region.strides, 1),
        tensor.data_ptr() - storage.data_ptr(),
    )
