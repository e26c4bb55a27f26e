"""Bytes of KV blocks survive any order of steps, hand-overs and frees, on a device that is late."""

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

pytest.importorskip("torch")

import torch

from aegaeon.kv_ledger import PoolFull
from aegaeon.live.instance.kv_mover import KvMover
from aegaeon.live.instance.kv_store import NULL_BLOCK, KvStore
from aegaeon.live.memory.device import CpuDevice
from aegaeon.live.memory.kv_arena import KvArena, KvLayout, Segment
from aegaeon.live.memory.kv_pool import KvPool
from aegaeon.live.memory.shared import SharedDirectory
from tests.support.fake_device import FakeDevice

pytestmark = pytest.mark.live

ARENA = 16 * 1024
SHAPES = {"a": 1024, "b": 1024, "c": 2048, "d": 4096}


def layouts():
    """Block-outermost layouts of three sizes, and one with its layers apart."""
    found = {
        name: KvLayout(ARENA // size, (Segment(0, size, size),)) for name, size in SHAPES.items()
    }
    return found | {"e": KvLayout.of_layers(8, 1024, 2, ARENA // 2, 1024)}


@pytest.mark.parametrize("name", list(layouts()))
def test_ranks_keep_their_parts_of_a_block_one_after_the_other(name, tmp_path):
    layout, ranks, count = layouts()[name], 2, 3
    device = CpuDevice()
    with SharedDirectory.create("ranks", tmp_path) as shared:
        pool = KvPool.create(shared, 2 * ranks * layout.block_bytes, 2, device)
        offsets = np.array(pool.alloc(ranks * layout.block_bytes, count))
        blocks, none = np.array([3, 1, 2]), offsets[:0]
        for rank in range(ranks):
            arena = torch.randint(0, 256, (ARENA,), dtype=torch.uint8)
            before = arena.clone()
            mover = KvMover(device, arena, pool, rank)
            mover.add(name, layout)
            mover.out(name, blocks, offsets)
            for block, at in zip(blocks, offsets.tolist(), strict=True):
                parts = [
                    before[s.start + block * s.pitch : s.start + block * s.pitch + s.length]
                    for s in layout.segments
                ]
                mine = pool.block(at + rank * layout.block_bytes, layout.block_bytes)
                assert torch.equal(mine, torch.cat(parts))
            mover.back(name, none, none, blocks)
            assert not torch.equal(arena, before)
            mover.back(name, blocks, offsets, none)
            assert torch.equal(arena, before)
        pool.close()


class Blocks(RuleBasedStateMachine):
    """A model of what each request's blocks should hold, against a store on a fake device."""

    def __init__(self):
        super().__init__()
        self.device = FakeDevice()
        self.shared = SharedDirectory.create("kv-store-test")
        self.pool = KvPool.create(self.shared, 8192, 12, self.device)
        self.arena = KvArena(self.device, ARENA)
        self.store = KvStore(self.device, self.arena, self.pool)
        self.layouts = layouts()
        for name, layout in self.layouts.items():
            self.arena.carve(name, layout.end)
            self.store.add(name, layout)
        self.requests = {}
        self.away = []
        self.stamp = 0

    def free_blocks(self, shell):
        taken = {b for (s, _), blocks in self.requests.items() if s == shell for b in blocks}
        return [b for b in range(1, self.layouts[shell].blocks) if b not in taken]

    def views(self, shell, block):
        return [
            self.arena.bytes[s.start + block * s.pitch : s.start + block * s.pitch + s.length]
            for s in self.layouts[shell].segments
        ]

    def write(self, shell, block):
        """Fill a block with a new number, as a kernel of the model would, on the compute stream."""
        self.stamp = self.stamp % 250 + 1
        value = self.stamp
        for view in self.views(shell, block):
            self.device.compute().launch(lambda view=view: view.fill_(value))
        return value

    @rule(shell=st.sampled_from("abcde"), count=st.integers(1, 3))
    def begin(self, shell, count):
        free = self.free_blocks(shell)[:count]
        if len(free) == count:
            try:
                self.store.prepare(shell, [], free)
            except PoolFull:
                return
            ident = (shell, self.stamp * 1000 + len(self.requests) + len(self.away))
            self.requests[ident] = {block: self.write(shell, block) for block in free}

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def step(self, data):
        ident = data.draw(st.sampled_from(sorted(self.requests)))
        blocks = self.requests[ident]
        try:
            self.store.prepare(ident[0], list(blocks), [NULL_BLOCK])
        except PoolFull:
            return
        self.device.run_all()
        for block, value in blocks.items():
            for view in self.views(ident[0], block):
                assert bool((view == value).all())
        for view in self.views(ident[0], NULL_BLOCK):
            assert not bool(view.any())
        last = max(blocks)
        blocks[last] = self.write(ident[0], last)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def finish(self, data):
        ident = data.draw(st.sampled_from(sorted(self.requests)))
        self.store.drop(ident[0], self.requests.pop(ident))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def leave(self, data):
        ident = data.draw(st.sampled_from(sorted(self.requests)))
        blocks = self.requests[ident]
        try:
            kv = self.store.export(ident[0], (sorted(blocks),), 1)
        except PoolFull:
            return
        del self.requests[ident]
        self.away.append((ident, kv, [blocks[b] for b in sorted(blocks)]))

    @precondition(lambda self: self.away)
    @rule(back=st.booleans())
    def come_back(self, back):
        ident, kv, values = self.away.pop()
        free = self.free_blocks(ident[0])[-len(values) :]
        if back and len(free) == len(values):
            self.store.adopt(ident[0], (free,), kv)
            self.requests[ident] = dict(zip(free, values, strict=True))
        else:
            self.store.discard(kv)

    @rule(shell=st.sampled_from("abcde"))
    def evict(self, shell):
        try:
            self.store.evict(shell)
        except PoolFull:
            return

    @rule(steps=st.integers(1, 5))
    def time_passes(self, steps):
        for _ in range(steps):
            for stream in self.device.streams:
                stream.advance()

    def teardown(self):
        for (shell, _), blocks in self.requests.items():
            self.store.drop(shell, blocks)
        for _, kv, _ in self.away:
            self.store.discard(kv)
        self.device.run_all()
        assert self.pool.reclaim() == 0
        assert all(use.used == 0 for use in self.pool.stats().values())
        self.pool.close()
        self.shared.close()


TestBlocks = Blocks.TestCase
TestBlocks.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
