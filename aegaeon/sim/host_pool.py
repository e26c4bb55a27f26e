"""What the KV of a finished simulation took up in each node's host memory (paper figure 16).

The simulated clock does not depend on it: the pool's books are kept afterwards, from the KV moves
that the recorder noted, with the live engine's own rule of allocation (`aegaeon.kv_ledger`).
"""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from aegaeon.errors import UserError
from aegaeon.kv_ledger import PoolFull, SlabLedger
from aegaeon.sim.simulator import Simulation
from aegaeon.sim.track import ConservationError


@dataclass
class HostPool:
    """The host KV pool of one node: section 5.3's sizes, and how often it is looked at."""

    pool_bytes: float = 320e9
    slab_bytes: int = 1 << 30
    block_tokens: int = 16
    sample_s: float = 0.25

    @property
    def slabs(self) -> int:
        """Slabs that fit the pool."""
        return int(self.pool_bytes // max(1, self.slab_bytes))


@dataclass(frozen=True, slots=True)
class Change:
    """Blocks that a request takes in a node's pool, or gives back, at `time` seconds."""

    time: float
    node: int
    request: int
    block_bytes: int
    blocks: int
    taken: bool


@dataclass(slots=True)
class Samples:
    """Columns of the pool's use: per sample, node and block size, bytes in blocks and in slabs."""

    time_s: array[float] = field(default_factory=lambda: array("d"))
    node: array[int] = field(default_factory=lambda: array("q"))
    block_bytes: array[int] = field(default_factory=lambda: array("q"))
    used: array[int] = field(default_factory=lambda: array("q"))
    allocated: array[int] = field(default_factory=lambda: array("q"))


def changes(simulation: Simulation, pool: HostPool) -> list[Change]:
    """Return what happens to the pools, by time.

    Blocks are taken when a copy to the host begins, as it needs them, and given back when the copy
    that brings the KV to a device again is complete. A rank of a tensor-parallel group has blocks
    of its own.
    """
    recorder, found = simulation.recorder, []
    instances = {spec.id: spec for spec in simulation.fleet}
    tracks = {track.request.id: track for track in simulation.tracks}
    homes: dict[int, deque[int]] = defaultdict(deque)
    columns = (recorder.move_at, recorder.move_s, recorder.move_instance, recorder.move_bytes)
    rows = list(zip(*columns, recorder.move_request, recorder.move_out, strict=True))
    for at, seconds, instance, size, request, out in rows:
        spec, per_token = instances[instance], tracks[request].cost.kv_bytes_per_token
        if out:
            homes[request].append(spec.node)
        blocks = spec.tp * -(-int(size) // (per_token * pool.block_tokens))
        found.append(
            Change(
                time=at if out else at + seconds,
                node=spec.node if out else homes[request].popleft(),
                request=request,
                block_bytes=per_token * pool.block_tokens,
                blocks=blocks,
                taken=bool(out),
            )
        )
    left = [i for i, nodes in homes.items() if nodes and not tracks[i].failed]
    if left:
        raise ConservationError(f"KV of {len(left)} finished requests is left in the host pool")
    return sorted(found, key=lambda change: change.time)


def host_pool(simulation: Simulation, pool: HostPool) -> Samples:
    """Return the pools' use every `sample_s` seconds, up to the last change.

    Raises `UserError` when the KV outgrows a pool, since the simulated times know of no such limit.
    """
    todo = deque(changes(simulation, pool))
    samples = Samples()
    if not todo:
        return samples
    end, sizes = todo[-1].time, sorted({change.block_bytes for change in todo})
    books = {node: _Books(pool) for node in sorted({spec.node for spec in simulation.fleet})}
    for time in _clock(end, pool.sample_s):
        while todo and todo[0].time <= time:
            change = todo.popleft()
            books[change.node].carry_out(change)
        for node, book in books.items():
            for size, (used, allocated) in book.use(sizes):
                samples.time_s.append(time)
                samples.node.append(node)
                samples.block_bytes.append(size)
                samples.used.append(used)
                samples.allocated.append(allocated)
    return samples


def _clock(end: float, step: float) -> Iterator[float]:
    """Yield 0, step, 2 * step, ... up to the first one at or after `end`."""
    for tick in range(int(-(-end // step)) + 1):
        yield tick * step


class _Books:
    """One node's tables and who holds which blocks."""

    def __init__(self, pool: HostPool) -> None:
        buffer = memoryview(bytearray(SlabLedger.nbytes(pool.slab_bytes, pool.slabs)))
        self._ledger = SlabLedger(buffer, pool.slab_bytes, pool.slabs)
        self._held: dict[int, deque[list[int]]] = defaultdict(deque)

    def carry_out(self, change: Change) -> None:
        if not change.taken:
            self._ledger.give_back(self._held[change.request].popleft())
            return
        try:
            blocks = self._ledger.take(change.block_bytes, change.blocks)
        except PoolFull as error:
            raise UserError(
                f"host_pool.pool_bytes: at {change.time:.1f} s the simulated KV outgrows the pool "
                f"of node {change.node} ({error}); raise it, or leave `pool` out of `keep`"
            ) from error
        self._held[change.request].append(blocks)

    def use(self, sizes: list[int]) -> Iterator[tuple[int, tuple[int, int]]]:
        now = self._ledger.use()
        for size in sizes:
            yield size, (now[size].used, now[size].allocated) if size in now else (0, 0)
