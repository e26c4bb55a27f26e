"""Gather and scatter as plain copies: a batch per run of neighbours on one side and region."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from kernels.layout import KvLayout
from kernels.moves import Ids, Moves, distinct, scattered
from kernels.views import blocks_of, paired


def gather(
    layout: KvLayout,
    tensors: Sequence[Tensor],
    block_ids: Ids,
    out: Tensor,
    rows: Ids | None = None,
) -> None:
    """Copy the named blocks into rows of `out`, uint8 (rows, layout.block_bytes)."""
    _copy(layout, tensors, Moves.of(layout, tensors, block_ids, out, rows), out, to_slabs=True)


def scatter(
    layout: KvLayout,
    tensors: Sequence[Tensor],
    block_ids: Ids,
    source: Tensor,
    rows: Ids | None = None,
) -> None:
    """Copy rows of `source`, uint8 (rows, layout.block_bytes), into the named blocks."""
    moves = Moves.of(layout, tensors, block_ids, source, rows)
    _copy(layout, tensors, moves, source, to_slabs=False)


def clear(layout: KvLayout, tensors: Sequence[Tensor], block_ids: Ids) -> None:
    """Fill the named blocks with zeros."""
    layout.check(tensors)
    ids = distinct("block", block_ids, layout.blocks)
    for region in layout.regions:
        cache = blocks_of(layout, region, tensors)
        if cache.is_cpu:
            cache.numpy()[ids] = 0
        else:
            index = torch.from_numpy(ids).pin_memory().to(cache.device, non_blocking=True)
            cache.index_fill_(0, index, 0)


def _copy(
    layout: KvLayout, tensors: Sequence[Tensor], moves: Moves, slabs: Tensor, *, to_slabs: bool
) -> None:
    """Copy at once on a CPU; on CUDA, queue on the current stream (slabs must be pinned)."""
    copy = _on_host if tensors[0].is_cpu and slabs.is_cpu else _queued
    for cache, slab in paired(layout, tensors, slabs):
        if to_slabs:
            copy(slab, cache, Moves(moves.rows, moves.blocks))
        else:
            copy(cache, slab, moves)


def _on_host(target: Tensor, source: Tensor, moves: Moves) -> None:
    """Copy on this thread, `moves` from rows of `source` to blocks of `target`.

    NumPy's indexed copies are one memcpy per chunk, in a loop in C. torch's indexed copies would
    start all threads for every call, and wait long if a thread has no core.
    """
    to, of = target.numpy(), source.numpy()
    spread = scattered(moves.rows, moves.blocks)
    # `take` would copy whole arrays to make them contiguous.
    if len(spread) > 1 and to.flags.c_contiguous and of.flags.c_contiguous:
        picked = scattered(moves.blocks, moves.rows)
        if len(picked) < len(spread):
            for run, places in picked:
                if isinstance(places, slice):
                    to[run] = of[places]
                else:
                    np.take(of, places, axis=0, out=to[run], mode="clip")
            return
    for run, places in spread:
        to[places] = of[run]


def _queued(target: Tensor, source: Tensor, moves: Moves) -> None:
    """Queue one asynchronous memcpy per longest piece contiguous on both sides."""
    runs = moves.runs()
    pieces = [pair for there, here in runs for pair in _pieces(target[there], source[here])]
    if pieces:
        targets, sources = zip(*pieces, strict=True)
        torch._foreach_copy_(targets, sources, non_blocking=True)


def _pieces(target: Tensor, source: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    if target.is_contiguous() and source.is_contiguous():
        yield target, source
        return
    for inner_target, inner_source in zip(target.unbind(0), source.unbind(0), strict=True):
        yield from _pieces(inner_target, inner_source)
