from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

torch = pytest.importorskip("torch")

from aegaeon.errors import UserError  # noqa: E402
from aegaeon.live.memory.kv_arena import KvArena  # noqa: E402
from aegaeon.live.memory.kv_cache import KvCache, layer_views  # noqa: E402
from tests.support.fake_device import FakeDevice  # noqa: E402

SIZE = 12 * 4096


@dataclass(frozen=True)
class Shape:
    """Equal layers of some blocks, as vLLM's KVCacheTensor describes them; numbers are bytes."""

    blocks: int
    page: int
    layers: int
    layer_stride: int
    block_stride: int
    offset: int = 0

    @property
    def block_bytes(self):
        return self.page * self.layers

    def views(self, arena):
        strides = (self.layer_stride, self.block_stride, self.offset)
        return layer_views(arena, self.blocks, self.page, self.layers, *strides)

    def ranges(self, block):
        starts = [self.offset + i * self.layer_stride for i in range(self.layers)]
        return [range(at + block * self.block_stride, at + block * self.block_stride + self.page)
                for at in starts]  # fmt: skip


def block_major(blocks, page, layers, offset=0):
    return Shape(blocks, page, layers, page, page * layers, offset)


def layer_major(blocks, page, layers, offset=0):
    return Shape(blocks, page, layers, page * blocks, page, offset)


@pytest.fixture
def arena():
    arena = KvArena(FakeDevice(), SIZE)
    for engine, shape in {"a": block_major(8, 512, 3), "b": layer_major(6, 1024, 2)}.items():
        arena.carve(engine, SIZE)
        arena.register(engine, KvCache.of(shape.views(arena.bytes)))
    return arena


def test_layers_of_a_block_that_lie_together_are_one_range(arena):
    cache = KvCache.of(block_major(8, 512, 3).views(arena.bytes))
    assert [view.shape for view in cache.views] == [(8, 1536)]
    assert (cache.blocks, cache.block_bytes, cache.layout.chunk) == (8, 1536, 1536)
    apart = KvCache.of(layer_major(6, 1024, 2).views(arena.bytes))
    assert [view.shape for view in apart.views] == [(6, 2, 1024)]
    assert (apart.block_bytes, apart.layout.chunk) == (2048, 1024)


def test_groups_of_layers_join_and_may_overlay_each_other(arena):
    first, second = layer_major(4, 512, 1), layer_major(4, 512, 1, offset=2048)
    both = layer_major(4, 512, 2)
    views = [*second.views(arena.bytes), *first.views(arena.bytes)]
    joined = KvCache.of([*views, *both.views(arena.bytes)])
    assert joined.layout == KvCache.of(both.views(arena.bytes)).layout
    with pytest.raises(ValueError, match="expected 4 blocks"):
        KvCache.of([*views, *layer_major(5, 512, 1, offset=8192).views(arena.bytes)])


def test_views_hold_every_block_and_join_layers_that_are_equally_spaced():
    arena = torch.arange(SIZE, dtype=torch.int64) % 251
    arena = arena.to(torch.uint8)
    for shapes, count in (
        ([block_major(8, 512, 3, offset=4096)], 1),
        ([layer_major(6, 1024, 4)], 1),
        ([layer_major(6, 1024, 2), layer_major(6, 512, 2, offset=16384)], 2),
        ([Shape(4, 256, 1, 0, 512, offset=at) for at in (0, 2048, 4096, 9000)], 2),
    ):
        cache = KvCache.of([view for shape in shapes for view in shape.views(arena)])
        assert len(cache.views) == count
        for block in range(cache.blocks):
            joined = torch.cat([view[block].flatten() for view in cache.views])
            ranges = [arena[r.start : r.stop] for shape in shapes for r in shape.ranges(block)]
            assert torch.equal(joined, torch.cat(ranges))


def test_engines_overlay_and_ranges_of_one_engine_do_not():
    arena = KvArena(FakeDevice(), SIZE)
    first, second = arena.carve("a", 5000), arena.carve("a", 100)
    other = arena.carve("b", 6000)
    assert (first.storage_offset(), second.storage_offset()) == (0, 8192)
    other.fill_(9)
    assert first.eq(9).all()
    assert not second.any()


def test_no_conflict_means_nothing_has_to_move(arena):
    arena.claim("a", [0, 1])
    assert arena.conflicts("a", [0, 1, 2]) == {}
    assert arena.conflicts("b", [3, 4]) == {}
    assert list(arena.unobstructed("b", [5, 0, 4, 1])) == [5, 4]


def test_conflicts_name_what_has_to_leave_and_claims_wait_for_it(arena):
    arena.claim("a", [0, 5])
    found = arena.conflicts("b", [0, 1, 2])
    assert {engine: ids.tolist() for engine, ids in found.items()} == {"a": [0, 5]}
    with pytest.raises(ValueError, match=r"blocks of \['a'\]"):
        arena.claim("b", [0])
    arena.release("a", found["a"])
    assert arena.missing("a", [5, 1, 0]).tolist() == [5, 1, 0]
    arena.claim("b", [0, 1, 2])
    assert arena.missing("b", [5, 1, 0]).tolist() == [5]
    assert arena.resident("a").tolist() == []
    assert arena.resident("b").tolist() == [0, 1, 2]


def test_refusals(arena):
    with pytest.raises(UserError, match=f"model c: its KV cache takes {SIZE + 1:,} bytes"):
        arena.carve("c", SIZE + 1)
    with pytest.raises(UserError, match="too few"):
        KvArena(FakeDevice(), 0)
    arena.carve("d", 4096)
    with pytest.raises(ValueError, match="not registered"):
        arena.conflicts("d", [0])
    with pytest.raises(ValueError, match="blocks end at 4608"):
        arena.register("d", KvCache.of(block_major(9, 512, 1).views(arena.bytes)))
    with pytest.raises(ValueError, match="blocks 0 to 7"):
        arena.claim("a", [8])


SHAPES = {
    "one": block_major(8, 512, 3),
    "two": layer_major(9, 1024, 4),
    "three": layer_major(16, 768, 2, offset=8192),
    "four": block_major(5, 2048, 4),
}


class Overlays(RuleBasedStateMachine):
    """The owner table against a plain map from every byte to the engine and block it holds."""

    @initialize()
    def start(self):
        self.arena = KvArena(FakeDevice(), SIZE)
        self.owner = {}
        self.engines = []
        self.add_engine()
        self.add_engine()

    @rule()
    def add_engine(self):
        if len(self.engines) < len(SHAPES):
            engine = list(SHAPES)[len(self.engines)]
            self.arena.carve(engine, SIZE)
            self.arena.register(engine, KvCache.of(SHAPES[engine].views(self.arena.bytes)))
            self.engines.append(engine)

    def draw(self, data):
        engine = data.draw(st.sampled_from(self.engines))
        blocks = st.lists(st.integers(0, SHAPES[engine].blocks - 1), max_size=5, unique=True)
        return engine, data.draw(blocks)

    def holders(self, engine, blocks):
        held = {self.owner.get(at) for b in blocks for r in SHAPES[engine].ranges(b) for at in r}
        return {(who, block) for who, block in held - {None} if who != engine}

    @rule(data=st.data())
    def evict_and_claim(self, data):
        engine, blocks = self.draw(data)
        found = self.arena.conflicts(engine, blocks)
        named = {(who, int(block)) for who, ids in found.items() for block in ids}
        assert named == self.holders(engine, blocks)
        clear = [block for block in blocks if not self.holders(engine, [block])]
        assert self.arena.unobstructed(engine, blocks).tolist() == clear
        for who, ids in found.items():
            self.arena.release(who, ids)
        self.owner = {at: who for at, who in self.owner.items() if who not in named}
        self.arena.claim(engine, blocks)
        for block in blocks:
            for part in SHAPES[engine].ranges(block):
                self.owner.update(dict.fromkeys(part, (engine, block)))

    @rule(data=st.data())
    def release(self, data):
        engine, blocks = self.draw(data)
        self.arena.release(engine, blocks)
        gone = {(engine, block) for block in blocks}
        self.owner = {at: who for at, who in self.owner.items() if who not in gone}

    @invariant()
    def residents_are_whole(self):
        if not hasattr(self, "arena"):
            return
        for engine in self.engines:
            ids = self.arena.resident(engine)
            assert ids.tolist() == sorted({b for who, b in self.owner.values() if who == engine})
            held = sum(who == engine for who, _ in self.owner.values())
            assert held == ids.size * SHAPES[engine].block_bytes
            assert ids.dtype == np.int64


TestOverlays = Overlays.TestCase
TestOverlays.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
