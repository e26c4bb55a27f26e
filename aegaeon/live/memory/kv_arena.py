"""One reservation of device memory that all engines' KV caches overlay, and who owns which bytes.

An engine's block ids do not change across a switch, so its blocks may stay where they are until
another engine needs those very bytes: eviction is lazy (paper section 5.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from aegaeon.errors import UserError
from aegaeon.live.memory.device import Device

Ids = npt.NDArray[np.int64]
ALIGN = 4096
_NOBODY = -1


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of every block: bytes [start + b * pitch, start + b * pitch + length) of block b."""

    start: int
    pitch: int
    length: int


@dataclass(frozen=True)
class KvLayout:
    """Which bytes of the arena each of an engine's `blocks` KV blocks takes.

    One segment if a block's layers lie together (block-outermost), one per layer and key/value
    otherwise. Segments that follow one another are merged.
    """

    blocks: int
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        merged: list[Segment] = []
        for segment in sorted(set(self.segments), key=lambda segment: segment.start):
            last = merged[-1] if merged else None
            if last and (last.start + last.length, last.pitch) == (segment.start, segment.pitch):
                merged[-1] = Segment(last.start, last.pitch, last.length + segment.length)
            else:
                merged.append(segment)
        object.__setattr__(self, "segments", tuple(merged))

    @classmethod
    def of_layers(
        cls,
        blocks: int,
        page_bytes: int,
        layers: int,
        layer_stride: int,
        block_stride: int,
        offset: int = 0,
    ) -> KvLayout:
        """Describe `layers` equal layers as vLLM's KVCacheTensor does; all numbers are bytes."""
        starts = [offset + layer * layer_stride for layer in range(layers)]
        return cls(blocks, tuple([Segment(at, block_stride, page_bytes) for at in starts]))

    def __add__(self, other: KvLayout) -> KvLayout:
        """Join two groups of layers that share block ids; groups may overlay the same bytes."""
        if self.blocks != other.blocks:
            raise ValueError(f"layouts of {self.blocks} and {other.blocks} blocks cannot be joined")
        return KvLayout(self.blocks, self.segments + other.segments)

    @property
    def block_bytes(self) -> int:
        """Bytes of one block, all layers."""
        return sum([segment.length for segment in self.segments])

    @property
    def end(self) -> int:
        """The first byte after the last block."""
        return max([s.start + (self.blocks - 1) * s.pitch + s.length for s in self.segments])

    def views(self, arena: torch.Tensor) -> list[torch.Tensor]:
        """Return the blocks' bytes in an arena, uint8 [blocks, segments, length] each.

        One view holds all of neighbouring segments that are alike and equally spaced.
        """
        groups: list[list[Segment]] = []
        for segment in self.segments:
            group = groups[-1] if groups else []
            if group and _continues(group, segment):
                group.append(segment)
            else:
                groups.append([segment])
        views = []
        for group in groups:
            first = group[0]
            gap = group[1].start - first.start if len(group) > 1 else first.length
            shape = (self.blocks, len(group), first.length)
            views.append(arena.as_strided(shape, (first.pitch, gap, 1), first.start))
        return views

    @property
    def unit(self) -> int:
        """The largest size of which all block boundaries are multiples."""
        return math.gcd(*[n for s in self.segments for n in (s.start, s.pitch, s.length)])


def _continues(group: list[Segment], segment: Segment) -> bool:
    last = group[-1]
    alike = (last.pitch, last.length) == (segment.pitch, segment.length)
    return alike and (len(group) == 1 or segment.start - last.start == last.start - group[-2].start)


@dataclass(slots=True)
class _Engine:
    index: int
    top: int = 0
    layout: KvLayout | None = None
    resident: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))


class KvArena:
    """All engines' KV caches over the same `nbytes` bytes of a device, and an owner table.

    The table has one entry per unit, the largest size that divides all engines' block boundaries:
    engine index and block id of whoever's live data the unit holds, or nobody. It records claims;
    it moves no bytes.
    """

    def __init__(self, device: Device, nbytes: int) -> None:
        if nbytes < ALIGN:
            raise UserError(f"KV arena: {nbytes} bytes are too few; give it at least {ALIGN}")
        self.bytes = device.reserve(nbytes)
        self._engines: dict[str, _Engine] = {}
        self._made = 0
        self._unit = nbytes
        self._owner = np.full(1, _NOBODY, dtype=np.int64)

    def carve(self, engine: str, nbytes: int) -> torch.Tensor:
        """Return the engine's next uint8 [nbytes] range; its `storage_offset()` is its first byte.

        Ranges of one engine lie apart, those of different engines overlay each other. Raises
        UserError if the arena is too small.
        """
        state = self._engines.get(engine)
        if state is None:
            state = self._engines[engine] = _Engine(self._made)
            self._made += 1
        start = -(-state.top // ALIGN) * ALIGN
        if start + nbytes > self.bytes.numel():
            raise UserError(
                f"model {engine}: its KV cache takes {start + nbytes:,} bytes, the KV arena has "
                f"{self.bytes.numel():,}; make the arena larger or give the model fewer blocks"
            )
        state.top = start + nbytes
        return self.bytes[start : start + nbytes]

    def register(self, engine: str, layout: KvLayout) -> None:
        """Tell where the engine's blocks lie; offsets in `layout` count from the arena's start."""
        state = self._engines[engine]
        if layout.end > state.top:
            raise ValueError(f"engine {engine}: blocks end at {layout.end}, beyond {state.top}")
        state.layout = layout
        state.resident = np.zeros(layout.blocks, dtype=np.bool_)
        unit = math.gcd(self._unit, layout.unit)
        self._owner = np.repeat(self._owner, self._unit // unit)
        self._unit = unit

    def remove(self, engine: str) -> None:
        """Forget an engine, if it is known; its bytes are nobody's."""
        state = self._engines.get(engine)
        if state is None:
            return
        if state.layout is not None:
            self.release(engine, self.resident(engine))
        del self._engines[engine]

    def resident(self, engine: str) -> Ids:
        """Return the ids of the engine's blocks whose data is on the device, ascending."""
        return np.flatnonzero(self._engines[engine].resident)

    def conflicts(self, engine: str, blocks: Iterable[int]) -> dict[str, Ids]:
        """Return, by engine, the resident blocks of others that overlap `blocks`; {} if none."""
        owners = self._owner[self._units(engine, blocks)]
        foreign = self._foreign(engine, owners)
        if not foreign.any():
            return {}
        others = np.unique(owners[foreign])
        names = {state.index: name for name, state in self._engines.items()}
        return {
            names[int(other)]: others[others >> 32 == other] & 0xFFFFFFFF
            for other in np.unique(others >> 32)
        }

    def unobstructed(self, engine: str, blocks: Iterable[int]) -> Ids:
        """Return those of `blocks` that overlap nothing of others, in the given order.

        An engine that hands out these first evicts least.
        """
        ids = _as_ids(blocks)
        owners = self._owner[self._units(engine, ids)]
        clear: Ids = ids[~self._foreign(engine, owners).any(axis=1)]
        return clear

    def claim(self, engine: str, blocks: Iterable[int]) -> None:
        """Note that `blocks` hold live data of the engine; ValueError if others' is still there.

        An engine that writes to its null block (id 0) has to claim that too.
        """
        ids = _as_ids(blocks)
        units = self._units(engine, ids)
        if self._foreign(engine, self._owner[units]).any():
            others = sorted(self.conflicts(engine, ids))
            raise ValueError(f"engine {engine} claims bytes that blocks of {others} hold")
        state = self._engines[engine]
        self._owner[units] = (state.index << 32 | ids)[:, None]
        state.resident[ids] = True

    def release(self, engine: str, blocks: Iterable[int]) -> None:
        """Note that `blocks` left the device or are done with; those not resident are ignored."""
        state = self._engines[engine]
        ids = _as_ids(blocks)
        ids = ids[state.resident[ids]]
        self._owner[self._units(engine, ids)] = _NOBODY
        state.resident[ids] = False

    def _foreign(self, engine: str, owners: Ids) -> npt.NDArray[np.bool_]:
        """Return which of these entries of the table are another engine's."""
        mine = self._engines[engine].index
        others: npt.NDArray[np.bool_] = (owners != _NOBODY) & (owners >> 32 != mine)
        return others

    def _units(self, engine: str, blocks: Iterable[int]) -> Ids:
        """Return the table's entries that make up each block, int64 [blocks, units of a block]."""
        layout = self._engines[engine].layout
        if layout is None:
            raise ValueError(f"engine {engine} is not registered")
        ids = _as_ids(blocks)
        if ids.size and not 0 <= ids.min() <= ids.max() < layout.blocks:
            raise ValueError(f"engine {engine} has blocks 0 to {layout.blocks - 1}, got {ids}")
        parts = [
            (s.start + ids[:, None] * s.pitch) // self._unit + np.arange(s.length // self._unit)
            for s in layout.segments
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _as_ids(blocks: Iterable[int]) -> Ids:
    if isinstance(blocks, np.ndarray):
        return blocks.astype(np.int64, copy=False)
    return np.fromiter(blocks, dtype=np.int64)
