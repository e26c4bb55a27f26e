"""Gather and scatter of KV blocks between a paged cache and contiguous slabs.

An import of this package imports neither torch nor triton. The first copy imports both.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from kernels.chunks import ChunkTable
from kernels.layout import KvLayout
from kernels.moves import Ids

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ChunkTable", "KvLayout", "clear", "gather", "joined", "scatter"]

MEMCPY_CHUNK = 256 * 1024
"""Bytes from which a chunk's own memcpy keeps a device's link busy: 256 KiB take 5 to 10 µs on
PCIe 5 x16, and queueing a copy takes about 3 µs.
"""


def gather(
    layout: KvLayout,
    tensors: Sequence[Tensor],
    block_ids: Ids,
    out: Tensor,
    rows: Ids | None = None,
) -> None:
    """Copy blocks of the cache into `rows` of `out` (all rows in order when None).

    `out` is uint8 (rows, layout.block_bytes). A CPU cache needs `out` on the CPU; a CUDA cache
    needs `out` pinned or on the device. A CUDA copy is queued on the current stream: keep `out`
    until the stream has done the copy. Ids are host values. Raises ValueError for ids out of range
    or named twice, and for other tensors than the layout's.
    """
    _variant(layout, tensors).gather(layout, tensors, block_ids, out, rows)


def scatter(
    layout: KvLayout,
    tensors: Sequence[Tensor],
    block_ids: Ids,
    source: Tensor,
    rows: Ids | None = None,
) -> None:
    """Copy `rows` of `source` (all rows in order when None) into blocks; else as `gather`."""
    _variant(layout, tensors).scatter(layout, tensors, block_ids, source, rows)


def clear(layout: KvLayout, tensors: Sequence[Tensor], block_ids: Ids) -> None:
    """Fill blocks with zeros; on CUDA, one launch per region is queued on the current stream.

    Raises ValueError as `gather` does.
    """
    from kernels import batched_memcpy

    batched_memcpy.clear(layout, tensors, block_ids)


def joined(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return a cache's bytes as few uint8 views (blocks, ..., bytes); tensors as `KvLayout.of`."""
    from kernels import views

    return views.joined(tensors)


def _variant(layout: KvLayout, tensors: Sequence[Tensor]) -> ModuleType:
    """Return plain copies on a CPU and for long chunks, Triton for short ones on CUDA."""
    from kernels import batched_memcpy

    if tensors and tensors[0].is_cuda and layout.chunk < MEMCPY_CHUNK:
        from kernels import triton_copy

        return triton_copy
    return batched_memcpy
