"""Triton kernels that gather and scatter KV blocks, one program per piece of a chunk.

A program reads one address and copies at most 16 KiB, in the widest words that all addresses and
strides are aligned to. The slabs lie on the device or in pinned host memory. The kernel reads and
writes pinned host memory over the link (zero-copy). With `staging` on the device, the kernel
stays on the device, and one contiguous memcpy crosses the link.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import gcd

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.chunks import ChunkTable
from kernels.layout import KvLayout
from kernels.moves import Ids, Moves, check_slabs

MAX_TILE = 2048
"""Words a program copies: 16 KiB of int64, 128 bytes a thread at 128 threads."""

_WORDS = {8: tl.int64, 4: tl.int32, 2: tl.int16, 1: tl.int8}


def _copy_chunks(
    addresses: tl.tensor,
    block_strides: tl.tensor,
    blocks: tl.tensor,
    rows: tl.tensor,
    slabs: tl.tensor,
    row_stride: tl.tensor,
    chunks: tl.tensor,
    words: tl.tensor,
    WORD: tl.constexpr,
    BYTES: tl.constexpr,
    ALIGN: tl.constexpr,
    TILE: tl.constexpr,
    TO_SLABS: tl.constexpr,
) -> None:
    """Copy piece p of chunk c of move m, for program (m * chunks + c) * pieces + p."""
    pieces = (words + TILE - 1) // TILE
    program = tl.program_id(0)
    chunk = (program // pieces) % chunks
    move = program // (pieces * chunks)
    cache = tl.load(addresses + chunk)
    cache += tl.load(blocks + move) * tl.load(block_strides + chunk)
    slab = slabs + tl.load(rows + move) * row_stride + chunk.to(tl.int64) * words * BYTES
    # 16-byte words need a known alignment, and Triton cannot infer that of an integer address.
    there = tl.multiple_of(cache.to(tl.pointer_type(WORD)), ALIGN)
    here = tl.multiple_of(slab.to(tl.pointer_type(WORD)), ALIGN)
    index = (program % pieces) * TILE + tl.arange(0, TILE)
    inside = index < words
    if TO_SLABS:
        tl.store(here + index, tl.load(there + index, mask=inside), mask=inside)
    else:
        tl.store(there + index, tl.load(here + index, mask=inside), mask=inside)


# Only `words` decides on wide loads. A specialisation on the other arguments would compile during
# a switch.
copy_chunks = triton.jit(_copy_chunks, do_not_specialize=["slabs", "row_stride", "chunks"])


def gather(
    layout: KvLayout,
    tensors: Sequence[Tensor],
    block_ids: Ids,
    out: Tensor,
    rows: Ids | None = None,
    staging: Tensor | None = None,
) -> None:
    """Queue copies of the named blocks into rows of `out`, uint8 (rows, layout.block_bytes).

    `staging`: slabs on the cache's device, at least one row per block, overwritten.
    """
    moves = Moves.of(layout, tensors, block_ids, out, rows)
    staging = _staging(layout, tensors, moves, out, staging)
    if staging is None:
        return _launch(layout, tensors, moves, out, to_slabs=True)
    dense = Moves(moves.blocks, np.arange(len(moves.blocks)))
    _launch(layout, tensors, dense, staging, to_slabs=True)
    for here, there in Moves(dense.rows, moves.rows).runs():
        out[there].copy_(staging[here], non_blocking=True)


def scatter(
    layout: KvLayout,
    tensors: Sequence[Tensor],
    block_ids: Ids,
    source: Tensor,
    rows: Ids | None = None,
    staging: Tensor | None = None,
) -> None:
    """Queue copies of rows of `source`, uint8 (rows, layout.block_bytes), into the named blocks.

    `staging` as in `gather`.
    """
    moves = Moves.of(layout, tensors, block_ids, source, rows)
    staging = _staging(layout, tensors, moves, source, staging)
    if staging is None:
        return _launch(layout, tensors, moves, source, to_slabs=False)
    dense = Moves(moves.blocks, np.arange(len(moves.blocks)))
    for here, there in Moves(dense.rows, moves.rows).runs():
        staging[here].copy_(source[there], non_blocking=True)
    _launch(layout, tensors, dense, staging, to_slabs=False)


def _staging(
    layout: KvLayout,
    tensors: Sequence[Tensor],
    moves: Moves,
    slabs: Tensor,
    given: Tensor | None,
) -> Tensor | None:
    """Return the staging slabs, or None if the kernel reaches the slabs without staging.

    Raises ValueError for given staging of another shape or device.
    """
    device, rows = tensors[0].device, len(moves.blocks)
    if given is None:
        if slabs.device == device or slabs.is_pinned():
            return None
        return torch.empty((rows, layout.block_bytes), dtype=torch.uint8, device=device)
    check_slabs(layout, given)
    if given.device != device or len(given) < rows:
        raise ValueError(
            f"expected {rows} staging rows on {device}, got {given.shape} on {given.device}"
        )
    return given


def _launch(
    layout: KvLayout, tensors: Sequence[Tensor], moves: Moves, slabs: Tensor, *, to_slabs: bool
) -> None:
    if not len(moves.blocks):
        return
    bases = tuple(tensor.data_ptr() for tensor in tensors)
    device = tensors[0].device
    table, addresses, strides = _table(layout, bases, device)
    if device.type == "cuda":
        # `lru_cache` may drop the table, and torch reuse its memory, before this stream is done.
        for column in (addresses, strides):
            column.record_stream(torch.cuda.current_stream(device))
    blocks, rows = _pairs(moves, device)
    align = gcd(table.align, slabs.data_ptr(), slabs.stride(0))
    word = min(align, 8)
    words = table.unit // word
    tile = min(triton.next_power_of_2(words), MAX_TILE)
    pieces = triton.cdiv(words, tile)
    # Triton launches on the current device, even if the arguments are on another device.
    with torch.cuda.device(tensors[0].get_device()):
        copy_chunks[(len(moves.blocks) * len(addresses) * pieces,)](
            addresses,
            strides,
            blocks,
            rows,
            slabs.data_ptr(),
            slabs.stride(0),
            len(addresses),
            words,
            WORD=_WORDS[word],
            BYTES=word,
            ALIGN=align,
            TILE=tile,
            TO_SLABS=to_slabs,
        )


def _pairs(moves: Moves, device: torch.device) -> Tensor:
    """Return the blocks and their rows on the device, int64 (2, moves)."""
    pairs = torch.from_numpy(np.stack([moves.blocks, moves.rows]))
    return pairs.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pairs


@lru_cache(maxsize=64)
def _table(
    layout: KvLayout, bases: tuple[int, ...], device: torch.device
) -> tuple[ChunkTable, Tensor, Tensor]:
    """Return the chunks' table and its two columns on the device."""
    table = ChunkTable.of(layout, bases)
    addresses = torch.from_numpy(table.addresses).to(device)
    return table, addresses, torch.from_numpy(table.block_strides).to(device)
