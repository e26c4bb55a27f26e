"""Pairs of blocks and slab rows: checked ids, and runs of neighbouring ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kernels.layout import KvLayout

if TYPE_CHECKING:
    from torch import Tensor

Places: TypeAlias = NDArray[np.int64]
Ids: TypeAlias = "Sequence[int] | Places | Tensor"


@dataclass(frozen=True, slots=True)
class Moves:
    """Pairs of a block in the cache and a row of the slabs, int64 (moves,), by ascending row.

    No block and no row is named twice.
    """

    blocks: Places
    rows: Places

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
        values. Raises ValueError for tensors that the layout does not describe, for slabs of
        another shape, and for ids out of range, named twice or not paired.
        """
        layout.check(tensors)
        check_slabs(layout, slabs)
        blocks = distinct("block", block_ids, layout.blocks)
        if rows is not None:
            places = distinct("slab row", rows, len(slabs))
        else:
            places = np.arange(len(slabs))
        if len(places) != len(blocks):
            raise ValueError(f"{len(blocks)} blocks for {len(places)} slab rows: expected as many")
        order = np.argsort(places)
        return cls(blocks[order], places[order])

    def runs(self) -> list[tuple[slice, slice]]:
        """Return the longest runs with neighbouring blocks and neighbouring rows."""
        edges = _edges((_steps(self.blocks) != 1) | (_steps(self.rows) != 1), len(self.blocks))
        return list(zip(_slices(self.blocks, edges), _slices(self.rows, edges), strict=True))


def scattered(here: Places, there: Places) -> list[tuple[slice, slice | Places]]:
    """Pair the longest runs of neighbours in `here` with the run's places in `there`.

    The place of a run of one element is a slice: NumPy is faster with a slice than with an index.
    """
    order = here.argsort()
    here, there = here[order], there[order]
    edges = _edges(_steps(here) != 1, len(here))
    runs, singles = _slices(here, edges), _slices(there, edges)
    places = [
        there[begin:end] if end - begin > 1 else single
        for (begin, end), single in zip(pairwise(edges), singles, strict=True)
    ]
    return list(zip(runs, places, strict=True))


def _steps(places: Places) -> Places:
    return places[1:] - places[:-1]


def _edges(cuts: NDArray[np.bool_], count: int) -> list[int]:
    """Return the starts of the runs of `count` places, and the end.

    cuts[i] is True if place i and place i + 1 are in different runs.
    """
    return [0, *(cuts.nonzero()[0] + 1).tolist(), count] if count else []


def _slices(places: Places, edges: list[int]) -> list[slice]:
    firsts = places[edges[:-1]].tolist()
    return [
        slice(first, first + end - begin)
        for first, (begin, end) in zip(firsts, pairwise(edges), strict=True)
    ]


def check_slabs(layout: KvLayout, slabs: Tensor) -> None:
    """Raise ValueError unless `slabs` is uint8 (rows, block bytes) with contiguous rows."""
    size = layout.block_bytes
    fits = str(slabs.dtype) == "torch.uint8" and slabs.dim() == 2 and slabs.shape[1] == size
    if not fits or (size > 1 and slabs.stride(1) != 1) or slabs.stride(0) < size:
        raise ValueError(
            f"expected uint8 slabs of shape (rows, {size}) with contiguous rows, got "
            f"{slabs.dtype} {tuple(slabs.shape)} with strides {tuple(slabs.stride())}"
        )


def distinct(what: str, given: Ids, bound: int) -> Places:
    """Return ids as int64 (ids,); ValueError unless all are integers in [0, bound), each once."""
    ids = np.asarray(given if isinstance(given, (Sequence, np.ndarray)) else given.tolist())
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ValueError(f"expected a flat list of integer {what} ids, got {given!r}")
    ordered = np.sort(ids)
    if (twice := ordered[1:] == ordered[:-1]).any():
        raise ValueError(f"{what} {ordered[1:][twice][0]} is named twice")
    if ids.size and not 0 <= ordered[0] <= ordered[-1] < bound:
        wrong = ids[(ids < 0) | (ids >= bound)][0]
        raise ValueError(f"{what} {wrong} is out of range: there are {bound}")
    return ids.astype(np.int64)
