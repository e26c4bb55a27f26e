"""What a dead instance held comes back, and only that."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

torch = pytest.importorskip("torch")

from aegaeon.kv_ledger import PoolFull  # noqa: E402
from aegaeon.live.memory.kv_pool import KvPool, in_flight  # noqa: E402
from aegaeon.live.memory.shared import SharedDirectory, runs, start_time  # noqa: E402
from aegaeon.live.ray.reaper import end, ranks_of  # noqa: E402

SLAB, SLABS, SIZES = 1 << 10, 6, (96, 128, 340)
SLEEP = "import time; time.sleep(60)"


def test_a_process_and_its_ranks_are_ended():
    with subprocess.Popen([sys.executable, "-c", SLEEP]) as instance:
        words = ["aegaeon.live.tp.rank_process", "5", str(instance.pid)]
        with subprocess.Popen([sys.executable, "-c", SLEEP, *words]) as rank:
            process = (instance.pid, start_time(instance.pid))
            assert [pid for pid, _ in ranks_of(instance.pid)] == [rank.pid]
            assert runs(*process)
            end(process, 10.0)
            assert not runs(*process)
            assert not runs(rank.pid, start_time(rank.pid) or 0)
    assert ranks_of(os.getpid()) == []
    end(process, 0.0)


class Holders(RuleBasedStateMachine):
    """Processes allocate, hand over, take over, free and die; requests are lost with them."""

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.shared = SharedDirectory.create("holders", Path(self.folder.name))
        self.agent = KvPool.create(self.shared, SLAB, SLABS)
        self.names = iter(range(4, 10_000))
        self.pools = {i: KvPool.attach(self.shared, holder=i) for i in (2, 3)}
        self.held: dict[int, list[tuple[int, list[int]]]] = {2: [], 3: []}
        self.flying: dict[int, tuple[int, list[int]]] = {}
        self.requests = iter(range(10_000))

    def pick(self, data):
        return data.draw(st.sampled_from(sorted(self.pools)))

    @rule(data=st.data(), size=st.sampled_from(SIZES), count=st.integers(1, 5))
    def alloc(self, data, size, count):
        pool = self.pick(data)
        try:
            self.held[pool].append((size, self.pools[pool].alloc(size, count)))
        except PoolFull:
            return

    @rule(data=st.data())
    def hand_over(self, data):
        pool = self.pick(data)
        if self.held[pool]:
            request, (size, blocks) = next(self.requests), self.held[pool].pop()
            self.pools[pool].hand_over(blocks, in_flight(request))
            self.flying[request] = (size, blocks)

    @rule(data=st.data())
    def take_over(self, data):
        if self.flying:
            pool = self.pick(data)
            size, blocks = self.flying.pop(data.draw(st.sampled_from(sorted(self.flying))))
            self.pools[pool].take_over(blocks)
            self.held[pool].append((size, blocks))

    @rule(data=st.data())
    def free(self, data):
        pool = self.pick(data)
        if self.held[pool]:
            self.pools[pool].free(self.held[pool].pop()[1])

    @rule(data=st.data())
    def carry(self, data):
        if self.flying:
            request = data.draw(st.sampled_from(sorted(self.flying)))
            size, blocks = self.flying[request]
            for at, block in enumerate(blocks):
                self.agent.block(block, size).fill_(at + 1)
            copied = self.agent.read(blocks, size)
            self.agent.discard(blocks, in_flight(request))
            again = self.agent.write(copied, in_flight(request))
            self.flying[request] = (size, again)
            for at, block in enumerate(again):
                assert set(self.agent.block(block, size).tolist()) == {at + 1}

    @rule(data=st.data(), half_written=st.booleans())
    def die(self, data, half_written):
        pool = self.pick(data)
        lost = [r for r in sorted(self.flying) if data.draw(st.booleans())]
        if half_written:
            # Killed between two writes: the counts of some slab are wrong.
            self.pools[pool]._ledger._used[data.draw(st.integers(0, SLABS - 1))] += 1
        gone = [blocks for _, blocks in self.held.pop(pool)]
        gone += [self.flying.pop(r)[1] for r in lost]
        freed = self.agent.release([pool, *map(in_flight, lost)])
        assert freed == sum(map(len, gone))
        assert self.agent.release([pool, *map(in_flight, lost)]) == 0
        for request, blocks in zip(lost, gone[len(gone) - len(lost) :], strict=True):
            self.agent.discard(blocks, in_flight(request))
        self.pools.pop(pool).close()
        name = next(self.names)
        self.pools[name], self.held[name] = KvPool.attach(self.shared, holder=name), []

    @invariant()
    def nothing_else_was_freed(self):
        if hasattr(self, "pools"):
            kept = [pair for pairs in self.held.values() for pair in pairs]
            kept += self.flying.values()
            stats = self.agent.stats()
            for size in SIZES:
                wanted = sum(len(blocks) for each, blocks in kept if each == size)
                assert (stats[size].used if size in stats else 0) == wanted * size

    def teardown(self):
        if hasattr(self, "pools"):
            self.agent.release([*self.pools, *map(in_flight, self.flying)])
            assert all(use.used == use.allocated == 0 for use in self.agent.stats().values())
            for pool in (*self.pools.values(), self.agent):
                pool.close()
            self.shared.close()
            self.folder.cleanup()


TestHolders = Holders.TestCase
TestHolders.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
