"""Labels that stand beside what they name and never on each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate


def spread(wanted: Sequence[float], sizes: Sequence[float], low: float, high: float) -> list[float]:
    """Return centres of labels of extent `sizes` in [low, high], as near as can be to `wanted`.

    No two labels overlap, their order is kept (ties by position in the list) and the sum of squared
    shifts is least: isotonic regression of the wanted centres, each less the room that the labels
    before it need. Sizes shrink in proportion when all together do not fit.
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
