"""One engine's KV blocks in the arena: byte views of them, and the views' layout for `kernels`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kernels import KvLayout, joined


@dataclass(frozen=True, slots=True)
class KvCache:
    """`layout` describes `views`, uint8 [blocks, ..., bytes] each, which hold every block once."""

    layout: KvLayout
    views: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, layers: Sequence[torch.Tensor]) -> KvCache:
        """Join views of an arena, one per layer, by ascending address.

        Layers of different cache groups may be the same bytes. Layers that are equally spaced
        share a view. Raises ValueError for layers that overlap otherwise or differ in blocks.
        """
        distinct = {(layer.data_ptr(), layer.shape, layer.stride()): layer for layer in layers}
        views = joined(sorted(distinct.values(), key=torch.Tensor.data_ptr))
        return cls(KvLayout.of(views), tuple(views))

    @property
    def blocks(self) -> int:
        """How many blocks the cache has."""
        return self.layout.blocks

    @property
    def block_bytes(self) -> int:
        """Bytes of one block, all layers."""
        return self.layout.block_bytes


def layer_views(
    arena: torch.Tensor,
    blocks: int,
    page_bytes: int,
    layers: int,
    layer_stride: int,
    block_stride: int,
    offset: int = 0,
) -> list[torch.Tensor]:
    """Return `layers` equal layers of an arena, uint8 [blocks, page_bytes] each.

    The numbers are those of vLLM's KVCacheTensor, in bytes; `offset` counts from the arena's start.
    """
    starts = [offset + layer * layer_stride for layer in range(layers)]
    return [arena.as_strided((blocks, page_bytes), (block_stride, 1), at) for at in starts]
