"""One reservation of device memory that all engines' KV caches overlay, and who owns which bytes.

An engine's block ids do not change across a switch. A block therefore stays where it is until
another engine needs the same bytes: eviction is lazy (paper section 5.3).
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
from aegaeon.live.memory.kv_cache import KvCache
from kernels import ChunkTable

Ids = npt.NDArray[np.int64]
ALIGN = 4096
_UNOWNED = -1


@dataclass(slots=True)
class _Overlay:
    """One engine's cache over the arena; `top` is the first byte after its ranges.

    `chunks` has the addresses of its blocks, from the arena's start. `resident` tells of every
    block whether its data is on the device.
    """

    index: int
    top: int = 0
    chunks: ChunkTable | None = None
    resident: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))


class KvArena:
    """All engines' KV caches over the same `nbytes` bytes of a device, and an owner table.

    The table has one entry per unit, the largest size that divides all engines' block boundaries.
    An entry is the engine's index and block id of the live data that the unit holds, or _UNOWNED.
    The arena records claims; it moves no bytes. No other object knows which blocks are resident.
    """

    def __init__(self, device: Device, nbytes: int) -> None:
        if nbytes < ALIGN:
            raise UserError(f"KV arena: {nbytes} bytes are too few; give it at least {ALIGN}")
        self.bytes = device.reserve(nbytes)
        self._overlays: dict[str, _Overlay] = {}
        self._made = 0
        self._unit = nbytes
        self._owner = np.full(1, _UNOWNED, dtype=np.int64)

    def carve(self, engine: str, nbytes: int) -> torch.Tensor:
        """Return the engine's next uint8 [nbytes] range; its `storage_offset()` is its first byte.

        Ranges of one engine lie apart, those of different engines overlay each other. Raises
        UserError if the arena is too small.
        """
        overlay = self._overlays.get(engine)
        if overlay is None:
            overlay = self._overlays[engine] = _Overlay(self._made)
            self._made += 1
        start = -(-overlay.top // ALIGN) * ALIGN
        if start + nbytes > self.bytes.numel():
            raise UserError(
                f"model {engine}: its KV cache takes {start + nbytes:,} bytes, the KV arena has "
                f"{self.bytes.numel():,}; make the arena larger or give the model fewer blocks"
            )
        overlay.top = start + nbytes
        return self.bytes[start : start + nbytes]

    def register(self, engine: str, cache: KvCache) -> None:
        """Note where the engine's blocks lie; `cache` has views of the arena."""
        overlay, first = self._overlays[engine], self.bytes.data_ptr()
        chunks = ChunkTable.of(cache.layout, [view.data_ptr() - first for view in cache.views])
        last = chunks.addresses + (cache.blocks - 1) * chunks.block_strides
        end = int(last.max()) + chunks.unit
        if end > overlay.top:
            raise ValueError(f"engine {engine}: blocks end at {end}, beyond {overlay.top}")
        overlay.chunks = chunks
        overlay.resident = np.zeros(cache.blocks, dtype=np.bool_)
        bounds = np.concatenate([chunks.addresses, chunks.block_strides, [chunks.unit]])
        unit = math.gcd(self._unit, int(np.gcd.reduce(bounds)))
        self._owner = np.repeat(self._owner, self._unit // unit)
        self._unit = unit

    def remove(self, engine: str) -> None:
        """Forget an engine, if it is known; its bytes become unowned."""
        overlay = self._overlays.get(engine)
        if overlay is None:
            return
        if overlay.chunks is not None:
            self.release(engine, self.resident(engine))
        del self._overlays[engine]

    def resident(self, engine: str) -> Ids:
        """Return the ids of the engine's blocks whose data is on the device, ascending."""
        return np.flatnonzero(self._overlays[engine].resident)

    def missing(self, engine: str, blocks: Iterable[int]) -> Ids:
        """Return those of `blocks` whose data is not on the device, in the given order."""
        ids = _as_ids(blocks)
        away: Ids = ids[~self._overlays[engine].resident[ids]]
        return away

    def conflicts(self, engine: str, blocks: Iterable[int]) -> dict[str, Ids]:
        """Return, by engine, the resident blocks of others that overlap `blocks`; {} if none."""
        owners = self._owner[self._units(engine, blocks)]
        foreign = self._foreign(engine, owners)
        if not foreign.any():
            return {}
        others = np.unique(owners[foreign])
        names = {overlay.index: name for name, overlay in self._overlays.items()}
        return {
            names[int(other)]: others[others >> 32 == other] & 0xFFFFFFFF
            for other in np.unique(others >> 32)
        }

    def unobstructed(self, engine: str, blocks: Iterable[int]) -> Ids:
        """Return those of `blocks` that overlap no other engine's data, in the given order.

        An engine that allocates these first evicts least.
        """
        ids = _as_ids(blocks)
        owners = self._owner[self._units(engine, ids)]
        clear: Ids = ids[~self._foreign(engine, owners).any(axis=1)]
        return clear

    def claim(self, engine: str, blocks: Iterable[int]) -> None:
        """Note that `blocks` hold live data of the engine.

        Raises ValueError if other engines' data is still there. An engine that writes to its null
        block (id 0) has to claim that too.
        """
        ids = _as_ids(blocks)
        units = self._units(engine, ids)
        if self._foreign(engine, self._owner[units]).any():
            others = sorted(self.conflicts(engine, ids))
            raise ValueError(f"engine {engine} claims bytes that blocks of {others} hold")
        overlay = self._overlays[engine]
        self._owner[units] = (overlay.index << 32 | ids)[:, None]
        overlay.resident[ids] = True

    def release(self, engine: str, blocks: Iterable[int]) -> None:
        """Note that `blocks` left the device or were freed; ignore those that are not resident."""
        overlay = self._overlays[engine]
        ids = _as_ids(blocks)
        ids = ids[overlay.resident[ids]]
        self._owner[self._units(engine, ids)] = _UNOWNED
        overlay.resident[ids] = False

    def _foreign(self, engine: str, owners: Ids) -> npt.NDArray[np.bool_]:
        """Return which of these entries of the table are another engine's."""
        mine = self._overlays[engine].index
        others: npt.NDArray[np.bool_] = (owners != _UNOWNED) & (owners >> 32 != mine)
        return others

    def _units(self, engine: str, blocks: Iterable[int]) -> Ids:
        """Return the table's entries that make up each block, int64 [blocks, units of a block]."""
        overlay = self._overlays[engine]
        chunks, count = overlay.chunks, overlay.resident.size
        if chunks is None:
            raise ValueError(f"engine {engine} is not registered")
        ids = _as_ids(blocks)
        if ids.size and not 0 <= ids.min() <= ids.max() < count:
            raise ValueError(f"engine {engine} has blocks 0 to {count - 1}, got {ids}")
        starts = (chunks.addresses + ids[:, None] * chunks.block_strides) // self._unit
        within = np.arange(chunks.unit // self._unit)
        return (starts[:, :, None] + within).reshape(len(ids), len(chunks.addresses) * within.size)


def _as_ids(blocks: Iterable[int]) -> Ids:
    if isinstance(blocks, np.ndarray):
        return blocks.astype(np.int64, copy=False)
    return np.fromiter(blocks, dtype=np.int64)
