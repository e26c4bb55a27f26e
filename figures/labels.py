"""Labels next to their marks, without overlap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate


def spread(wanted: Sequence[float], sizes: Sequence[float], low: float, high: float) -> list[float]:
    """Return centres of labels of extent `sizes` in [low, high], near the `wanted` centres.

    No two labels overlap. The order of labels is kept, with ties by position in the list. The sum
    of squared shifts is least: the method is isotonic regression of the wanted centres, each less
    the room of all earlier labels. Sizes shrink in proportion if the sum of sizes is more than the
    interval. All numbers have the unit of the axis.
    """
    if not wanted:
        return []
    shrink = min(1.0, (high - low) / (sum(sizes) or 1.0))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    extents = [sizes[i] * shrink for i in order]
    ends = list(accumulate(extents))
    offsets = [end - extent / 2 for end, extent in zip(ends, extents, strict=True)]
    blocks: list[tuple[float, int]] = []
    for index, offset in zip(order, offsets, strict=True):
        centre, count = wanted[index] - offset, 1
        while blocks and blocks[-1][0] >= centre:
            other, others = blocks.pop()
            centre = (centre * count + other * others) / (count + others)
            count += others
        blocks.append((centre, count))
    last = max(low, high - ends[-1])
    starts = [min(max(centre, low), last) for centre, count in blocks for _ in range(count)]
    placed = [0.0] * len(wanted)
    for index, start, offset in zip(order, starts, offsets, strict=True):
        placed[index] = start + offset
    return placed
