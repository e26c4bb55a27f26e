"""Copies KV blocks between one rank's arena and its part of the node's host pool.

What to copy is `KvStore`'s decision, made once for all ranks of an instance; each mover obeys.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from aegaeon.engine.memory.device import Device, Event
from aegaeon.engine.memory.kv_arena import KvLayout
from aegaeon.engine.memory.kv_pool import KvPool
from aegaeon.engine.memory.layout import ALIGN

BlockIds = Sequence[int]


class KvMover:
    """Moves rank `rank`'s part of blocks on side streams; `arena` is its device's KV bytes.

    A host block holds every rank's part of a KV block, one after the other, so offsets are the same
    on all ranks and nothing but the decision to move has to be shared.
    """

    def __init__(self, device: Device, arena: torch.Tensor, pool: KvPool, rank: int = 0) -> None:
        self._device = device
        self._arena = arena
        self._host = pool.bytes
        self._rank = rank
        self._out = device.stream()
        self._in = device.stream()
        self._zeros = device.reserve(ALIGN)
        self._layouts: dict[str, KvLayout] = {}

    def add(self, shell: str, layout: KvLayout) -> None:
        """Note where a shell's blocks lie in the arena."""
        longest = max([segment.length for segment in layout.segments])
        if longest > self._zeros.numel():
            self._zeros = self._device.reserve(longest)
        self._layouts[shell] = layout

    def remove(self, shell: str) -> None:
        """Forget a shell, if it is known."""
        self._layouts.pop(shell, None)

    def out(self, shell: str, blocks: BlockIds, offsets: BlockIds) -> Event:
        """Copy blocks to the host, what the compute stream wrote so far included."""
        self._out.wait(self._device.compute().record())
        self._copy(self._layouts[shell], blocks, offsets, out=True)
        return self._out.record()

    def back(self, shell: str, blocks: BlockIds, offsets: BlockIds, zero: BlockIds) -> Event:
        """Copy blocks from the host, and clear the `zero` ones, before later compute work.

        The event says when the host's bytes have been read.
        """
        # Waiting for the way out covers both: bytes that had to leave the arena first, and host
        # blocks that are still being written. Evicting may have moved nothing, but then it is free.
        evicted = self._out.record()
        compute = self._device.compute()
        self._in.wait(compute.record())
        self._in.wait(evicted)
        layout = self._layouts[shell]
        if blocks:
            self._copy(layout, blocks, offsets, out=False)
        read = self._in.record()
        compute.wait(read)
        for block in zero:
            for segment in layout.segments:
                start = segment.start + block * segment.pitch
                there = self._arena[start : start + segment.length]
                compute.copy(there, self._zeros[: segment.length])
        return read

    def settle(self) -> None:
        """Wait until every copy started so far is complete."""
        self._out.record().synchronize()
        self._in.record().synchronize()

    def _copy(self, layout: KvLayout, blocks: BlockIds, offsets: BlockIds, out: bool) -> None:
        size = layout.block_bytes
        stream = self._out if out else self._in
        contiguous = len(layout.segments) == 1 and layout.segments[0].pitch == size
        places = [at + self._rank * size for at in offsets] if self._rank else offsets
        for block, place, count in _runs(blocks, places, size if contiguous else 0):
            at = place
            for segment in layout.segments:
                start = segment.start + block * segment.pitch
                here = self._arena[start : start + segment.length * count]
                there = self._host[at : at + segment.length * count]
                stream.copy(*((there, here) if out else (here, there)))
                at += segment.length


def _runs(blocks: BlockIds, places: BlockIds, size: int) -> list[tuple[int, int, int]]:
    """Join neighbours into (block, place, count); with size 0 nothing is joined."""
    runs: list[tuple[int, int, int]] = []
    for block, place in sorted(zip(blocks, places, strict=True)):
        if runs and size:
            first, at, count = runs[-1]
            if block == first + count and place == at + count * size:
                runs[-1] = (first, at, count + 1)
                continue
        runs.append((block, place, 1))
    return runs
