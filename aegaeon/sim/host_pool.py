"""The host memory that the KV of a finished run took on each node (paper figure 16).

The simulated clock does not depend on it. The pool's ledger is kept afterwards, from the KV moves
of the run log, with the live engine's own rule of allocation (`aegaeon.kv_ledger`).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from aegaeon.constraints import above, at_least
from aegaeon.errors import UserError
from aegaeon.kv_ledger import PoolFull, SlabLedger
from aegaeon.policy.lifecycle import ConservationError
from aegaeon.runlog import PoolSample, RunLog


@dataclass
class HostPool:
    """The host KV pool of one node: sizes of section 5.3, and the seconds between samples."""

    pool_bytes: float = field(default=320e9, metadata=above(0, 1e15))
    slab_bytes: int = field(default=1 << 30, metadata=above(0))
    block_tokens: int = field(default=16, metadata=above(0, 1_000_000))
    sample_s: float = field(default=0.25, metadata=at_least(0.001, 1e6))

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


def changes(log: RunLog, pool: HostPool) -> list[Change]:
    """Return the changes of all pools, by time.

    A copy to the host takes its blocks when it begins. A copy to a device gives the blocks back
    when it is complete. Each rank of a tensor-parallel group has blocks of its own.
    """
    moves, found = log.moves, []
    instances = {spec.id: spec for spec in log.fleet}
    homes: dict[int, deque[int]] = defaultdict(deque)
    columns = (moves.time, moves.seconds, moves.instance, moves.nbytes, moves.request, moves.out)
    rows = zip(*[column.tolist() for column in columns], moves.model, strict=True)
    for at, seconds, instance, size, request, out, model in rows:
        spec, per_token = instances[instance], log.costs[model].kv_bytes_per_token
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
                taken=out,
            )
        )
    left = [i for i, nodes in homes.items() if nodes and log.requests[i].failure is None]
    if left:
        raise ConservationError(f"KV of {len(left)} finished requests is left in the host pool")
    return sorted(found, key=lambda change: change.time)


def host_pool(log: RunLog, pool: HostPool) -> list[PoolSample]:
    """Return the pools' use every `sample_s` seconds, up to the last change.

    Raises `UserError` when the KV outgrows a pool, since the simulated times know of no such limit.
    """
    todo = deque(changes(log, pool))
    samples: list[PoolSample] = []
    if not todo:
        return samples
    end, sizes = todo[-1].time, sorted({change.block_bytes for change in todo})
    ledgers = {node: _Ledger(pool) for node in sorted({spec.node for spec in log.fleet})}
    for time in _clock(end, pool.sample_s):
        while todo and todo[0].time <= time:
            change = todo.popleft()
            ledgers[change.node].carry_out(change)
        for node, ledger in ledgers.items():
            for size, (used, allocated) in ledger.use(sizes):
                samples.append(PoolSample(time, str(node), size, used, allocated))
    return samples


def _clock(end: float, step: float) -> Iterator[float]:
    """Yield 0, step, 2 * step, ... up to the first one at or after `end`."""
    for tick in range(int(-(-end // step)) + 1):
        yield tick * step


class _Ledger:
    """One node's slabs, and the blocks of each request."""

    def __init__(self, pool: HostPool) -> None:
        buffer = memoryview(bytearray(SlabLedger.nbytes(pool.slab_bytes, pool.slabs)))
        self._slabs = SlabLedger(buffer, pool.slab_bytes, pool.slabs)
        self._held: dict[int, deque[list[int]]] = defaultdict(deque)

    def carry_out(self, change: Change) -> None:
        if not change.taken:
            self._slabs.give_back(self._held[change.request].popleft())
            return
        try:
            blocks = self._slabs.take(change.block_bytes, change.blocks)
        except PoolFull as error:
            raise UserError(
                f"host_pool.pool_bytes: at {change.time:.1f} s the simulated KV outgrows the pool "
                f"of node {change.node} ({error}); raise it, or leave `pool` out of `keep`"
            ) from error
        self._held[change.request].append(blocks)

    def use(self, sizes: list[int]) -> Iterator[tuple[int, tuple[int, int]]]:
        now = self._slabs.use()
        for size in sizes:
            yield size, (now[size].used, now[size].allocated) if size in now else (0, 0)
