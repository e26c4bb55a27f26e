"""The reference for tests: gather and scatter by index_select and index_copy_, per tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kernels.layout import KvLayout
from kernels.moves import Ids, Moves, Places

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def gather(
    layout: KvLayout,
    tensors: Sequence[Tensor],
    block_ids: Ids,
    out: Tensor,
    rows: Ids | None = None,
) -> None:
    """Copy the named blocks into rows of `out`, uint8 (rows, layout.block_bytes)."""
    moves = Moves.of(layout, tensors, block_ids, out, rows)
    for values, part in _parts(layout, tensors, out):
        picked = values.index_select(0, _index(moves.blocks, values)).contiguous()
        flat = picked.flatten(1).view(torch.uint8).to(out.device)
        part.index_copy_(0, _index(moves.rows, out), flat)


def scatter(
    layout: KvLayout,
    tensors: Sequence[Tensor],
    block_ids: Ids,
    source: Tensor,
    rows: Ids | None = None,
) -> None:
    """Copy rows of `source`, uint8 (rows, layout.block_bytes), into the named blocks."""
    moves = Moves.of(layout, tensors, block_ids, source, rows)
    for values, part in _parts(layout, tensors, source):
        flat = part.index_select(0, _index(moves.rows, source)).to(values.device)
        shaped = flat.contiguous().view(values.dtype).view(len(flat), *values.shape[1:])
        values.index_copy_(0, _index(moves.blocks, values), shaped)


def _parts(
    layout: KvLayout, tensors: Sequence[Tensor], slabs: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each tensor, as integers with the blocks first, and the tensor's slab columns."""
    start = 0
    for plane, tensor in zip(layout.planes, tensors, strict=True):
        values = tensor.view(_BITS[plane.itemsize]).permute(plane.order).unsqueeze(-1)
        stop = start + values[0].numel() * plane.itemsize
        yield values, slabs[:, start:stop]
        start = stop


def _index(ids: Places, like: Tensor) -> Tensor:
    return torch.from_numpy(ids).to(like.device)
