"""Gather and scatter as a batch of plain copies: one per run of neighbouring blocks and region."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kernels.layout import KvLayout
from kernels.moves import Ids, Moves
from kernels.views import paired


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


def _copy(
    layout: KvLayout, tensors: Sequence[Tensor], moves: Moves, slabs: Tensor, *, to_slabs: bool
) -> None:
    """On a CPU copy at once, else queue on the current stream (slabs then must be pinned)."""
    runs = moves.runs()
    copy = _on_host if tensors[0].is_cpu and slabs.is_cpu else _queued
    for cache, slab in paired(layout, tensors, slabs):
        if to_slabs:
            copy(slab, cache, [(row, block) for block, row in runs])
        else:
            copy(cache, slab, runs)


def _on_host(target: Tensor, source: Tensor, runs: Sequence[tuple[slice, slice]]) -> None:
    """Copy on this thread.

    NumPy's strided copy is one memcpy per chunk in C without the interpreter lock. torch's would
    start all of its threads for every run, and wait long wherever one of them has no core.
    """
    to, of = target.numpy(), source.numpy()
    for there, here in runs:
        to[there] = of[here]


def _queued(target: Tensor, source: Tensor, runs: Sequence[tuple[slice, slice]]) -> None:
    """Queue one asynchronous memcpy per longest piece contiguous on both sides."""
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
