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
from aegaeon.live.memory.kv_arena import KvArena
from aegaeon.live.memory.kv_cache import KvCache, layer_views
from aegaeon.live.memory.kv_pool import KvPool
from aegaeon.live.memory.shared import SharedDirectory
from aegaeon.live.tp.messages import MoveBack, MoveOut
from tests.support.fake_device import FakeDevice

pytestmark = pytest.mark.live

ARENA = 16 * 1024
SHAPES = {"a": 1024, "b": 1024, "c": 2048, "d": 4096}


def caches(arena):
    """Block-outermost caches of three sizes of block, and one with its layers apart."""
    found = {
        name: KvCache.of(layer_views(arena, ARENA // size, size, 1, 0, size))
        for name, size in SHAPES.items()
    }
    return found | {"e": KvCache.of(layer_views(arena, 8, 1024, 2, ARENA // 2, 1024))}


def views(cache, block):
    return [view[block] for view in cache.views]


@pytest.mark.parametrize("name", [*SHAPES, "e"])
def test_ranks_keep_their_parts_of_a_block_one_after_the_other(name, tmp_path):
    ranks, count = 2, 3
    block_bytes = caches(torch.zeros(ARENA, dtype=torch.uint8))[name].block_bytes
    device = CpuDevice()
    with SharedDirectory.create("ranks", tmp_path) as shared:
        pool = KvPool.create(shared, 2 * ranks * block_bytes, 2, device)
        offsets = np.array(pool.alloc(ranks * block_bytes, count))
        blocks, none = np.array([3, 1, 2]), offsets[:0]
        for rank in range(ranks):
            arena = torch.randint(0, 256, (ARENA,), dtype=torch.uint8)
            before = arena.clone()
            mover = KvMover(device, pool, rank)
            mover.add(name, caches(arena)[name])
            mover.move(MoveOut(name, blocks, offsets))
            for block, at in zip(blocks, offsets.tolist(), strict=True):
                parts = [part.flatten() for part in views(caches(before)[name], block)]
                mine = pool.block(at + rank * block_bytes, block_bytes)
                assert torch.equal(mine, torch.cat(parts))
            mover.move(MoveBack(name, none, none, blocks))
            assert not torch.equal(arena, before)
            mover.move(MoveBack(name, blocks, offsets, none))
            assert torch.equal(arena, before)
        pool.close()


@pytest.fixture
def crowded(tmp_path):
    """A store of four engines, one with room for its blocks in a host pool of one slab."""
    device = CpuDevice()
    with SharedDirectory.create("crowded", tmp_path) as shared:
        pool = KvPool.create(shared, 4096, 1, device)
        arena = KvArena(device, ARENA)
        store = KvStore(device, arena, pool)
        for name, cache in caches(arena.bytes).items():
            arena.carve(name, ARENA)
            store.add(name, cache)
        yield store, arena, pool
        pool.close()


def fill(store, arena):
    """Let `a` and `c` write blocks that `d` is going to need: 2 and 3 of 4 KiB each."""
    store.prepare("a", [], [8, 9, 10, 11])
    store.prepare("c", [], [6, 7])
    return {name: arena.resident(name).tolist() for name in ("a", "c")}


def test_a_step_without_room_for_its_victims_moves_none_of_them(crowded):
    store, arena, pool = crowded
    before = fill(store, arena)
    # The one slab of the host pool takes blocks of one engine only.
    with pytest.raises(PoolFull):
        store.prepare("d", [], [2, 3])
    assert {name: arena.resident(name).tolist() for name in ("a", "c")} == before
    assert [store.evictions(name) for name in ("a", "c")] == [0, 0]
    assert sum(use.used for use in pool.stats().values()) == 0
    # What was reserved for the first victim has been freed.
    store.evict("c")
    assert sum(use.used for use in pool.stats().values()) == 4096


def test_an_engine_gives_blocks_up_when_all_victims_have_left(crowded):
    store, arena, pool = crowded
    fill(store, arena)
    seen = []

    def give_up(blocks):
        # All victims are off the device: the freed blocks are `drop`ped in mid-call, as vLLM does.
        seen.append((blocks, arena.resident("a").tolist(), arena.resident("c").tolist()))
        store.drop("c", [*blocks, 1])
        store.prepare("b", [], [1])

    store.on_full("a", give_up)
    store.on_full("c", give_up)
    store.prepare("d", [], [2, 3])
    assert seen == [([6, 7], [], [])]
    assert arena.resident("d").tolist() == [2, 3]
    assert arena.resident("b").tolist() == [1]
    assert [store.evictions(name) for name in ("a", "c")] == [1, 1]
    assert sum(use.used for use in pool.stats().values()) == 4096


class Blocks(RuleBasedStateMachine):
    """A model of what each request's blocks should hold, against a store on a fake device."""

    def __init__(self):
        super().__init__()
        self.device = FakeDevice()
        self.shared = SharedDirectory.create("kv-store-test")
        self.pool = KvPool.create(self.shared, 8192, 12, self.device)
        self.arena = KvArena(self.device, ARENA)
        self.store = KvStore(self.device, self.arena, self.pool)
        self.caches = caches(self.arena.bytes)
        for name, cache in self.caches.items():
            self.arena.carve(name, ARENA)
            self.store.add(name, cache)
        self.requests = {}
        self.away = []
        self.stamp = 0

    def free_blocks(self, engine):
        taken = {b for (s, _), blocks in self.requests.items() if s == engine for b in blocks}
        return [b for b in range(1, self.caches[engine].blocks) if b not in taken]

    def views(self, engine, block):
        return views(self.caches[engine], block)

    def write(self, engine, block):
        """Fill a block with a new number, as a kernel of the model would, on the compute stream."""
        self.stamp = self.stamp % 250 + 1
        value = self.stamp
        for view in self.views(engine, block):
            self.device.compute().launch(lambda view=view: view.fill_(value))
        return value

    @rule(engine=st.sampled_from("abcde"), count=st.integers(1, 3))
    def begin(self, engine, count):
        free = self.free_blocks(engine)[:count]
        if len(free) == count:
            try:
                self.store.prepare(engine, [], free)
            except PoolFull:
                return
            ident = (engine, self.stamp * 1000 + len(self.requests) + len(self.away))
            self.requests[ident] = {block: self.write(engine, block) for block in free}

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

    @rule(engine=st.sampled_from("abcde"))
    def evict(self, engine):
        try:
            self.store.evict(engine)
        except PoolFull:
            return

    @rule(steps=st.integers(1, 5))
    def time_passes(self, steps):
        for _ in range(steps):
            for stream in self.device.streams:
                stream.advance()

    def teardown(self):
        for (engine, _), blocks in self.requests.items():
            self.store.drop(engine, blocks)
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
