"""Which block goes to which row of the slabs: checked ids, and runs of neighbours among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, TypeAlias

from kernels.layout import KvLayout

if TYPE_CHECKING:
    from torch import Tensor

Ids: TypeAlias = "Sequence[int] | Tensor"


@dataclass(frozen=True, slots=True)
class Moves:
    """Pairs of a block in the cache and a row of the slabs, none named twice."""

    blocks: list[int]
    rows: list[int]

    @classmethod
    def of(
        cls,
        layout: KvLayout,
        tensors: Sequence[Tensor],
        block_ids: Ids,
        slabs: Tensor,
        rows: Ids | None = None,
    ) -> Moves:
        """Pair `block_ids` with `rows` of `slabs` (by default with all rows, in order).

        `slabs` is a uint8 tensor (rows, layout.block_bytes), each row contiguous. Ids are host
        values. Raises ValueError for tensors the layout does not describe, slabs of another
        shape, and ids out of range, named twice or not paired.
        """
        layout.check(tensors)
        check_slabs(layout, slabs)
        blocks = _distinct("block", block_ids, layout.blocks)
        if rows is not None:
            places = _distinct("slab row", rows, len(slabs))
        else:
            places = list(range(len(slabs)))
        if len(places) != len(blocks):
            raise ValueError(f"{len(blocks)} blocks for {len(places)} slab rows: expected as many")
        return cls(blocks, places)

    def runs(self) -> list[tuple[slice, slice]]:
        """Return the longest stretches in which both the blocks and the rows are neighbours."""
        blocks, rows, total, start = self.blocks, self.rows, len(self.blocks), 0
        found: list[tuple[slice, slice]] = []
        for stop in range(1, total + 1):
            if (
                stop == total
                or blocks[stop] != blocks[stop - 1] + 1
                or rows[stop] != rows[stop - 1] + 1
            ):
                ends = blocks[stop - 1] + 1, rows[stop - 1] + 1
                found.append((slice(blocks[start], ends[0]), slice(rows[start], ends[1])))
                start = stop
        return found


def check_slabs(layout: KvLayout, slabs: Tensor) -> None:
    """Raise ValueError unless `slabs` is uint8 (rows, block bytes) with contiguous rows."""
    size = layout.block_bytes
    fits = str(slabs.dtype) == "torch.uint8" and slabs.dim() == 2 and slabs.shape[1] == size
    if not fits or (size > 1 and slabs.stride(1) != 1) or slabs.stride(0) < size:
        raise ValueError(
            f"expected uint8 slabs of shape (rows, {size}) with contiguous rows, got "
            f"{slabs.dtype} {tuple(slabs.shape)} with strides {tuple(slabs.stride())}"
        )


def _distinct(what: str, given: Ids, bound: int) -> list[int]:
    try:
        ids = [index(i) for i in (given if isinstance(given, Sequence) else given.tolist())]
    except TypeError:
        raise ValueError(f"expected a flat list of integer {what} ids, got {given!r}") from None
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f"{what} {twice} is named twice")
    if ids and (min(ids) < 0 or max(ids) >= bound):
        wrong = next(i for i in ids if not 0 <= i < bound)
        raise ValueError(f"{what} {wrong} is out of range: there are {bound}")
    return ids
