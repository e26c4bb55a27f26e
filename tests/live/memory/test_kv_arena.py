import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

torch = pytest.importorskip("torch")

from aegaeon.errors import UserError  # noqa: E402
from aegaeon.live.memory.kv_arena import KvArena, KvLayout, Segment  # noqa: E402
from tests.support.fake_device import FakeDevice  # noqa: E402

SIZE = 12 * 4096


def block_major(blocks, page, layers, offset=0):
    return KvLayout.of_layers(blocks, page, layers, page, page * layers, offset)


def layer_major(blocks, page, layers, offset=0):
    return KvLayout.of_layers(blocks, page, layers, page * blocks, page, offset)


def block_ranges(layout, block):
    return [range(s.start + block * s.pitch, s.start + block * s.pitch + s.length)
            for s in layout.segments]  # fmt: skip


@pytest.fixture
def arena():
    arena = KvArena(FakeDevice(), SIZE)
    for shell, layout in {"a": block_major(8, 512, 3), "b": layer_major(6, 1024, 2)}.items():
        arena.carve(shell, SIZE)
        arena.register(shell, layout)
    return arena


def test_a_block_outermost_layout_is_one_segment():
    assert block_major(8, 512, 3).segments == (Segment(0, 1536, 1536),)
    assert layer_major(6, 1024, 2).segments == (Segment(0, 1024, 1024), Segment(6144, 1024, 1024))
    assert block_major(8, 512, 3, offset=4096).end == 4096 + 8 * 1536
    assert layer_major(6, 1024, 2).block_bytes == 2048


def test_groups_of_layers_join_and_may_overlay_each_other():
    joined = layer_major(4, 512, 1) + layer_major(4, 512, 1, offset=2048)
    assert joined == layer_major(4, 512, 2)
    assert layer_major(4, 512, 2) + layer_major(4, 512, 2) == layer_major(4, 512, 2)
    with pytest.raises(ValueError, match="4 and 5 blocks"):
        layer_major(4, 512, 1) + layer_major(5, 512, 1)


def test_views_hold_every_block_and_join_layers_that_are_equally_spaced():
    arena = torch.arange(SIZE, dtype=torch.int64) % 251
    arena = arena.to(torch.uint8)
    uneven = KvLayout(4, tuple([Segment(at, 512, 256) for at in (0, 2048, 4096, 9000)]))
    for layout, count in (
        (block_major(8, 512, 3, offset=4096), 1),
        (layer_major(6, 1024, 4), 1),
        (layer_major(6, 1024, 2) + layer_major(6, 512, 2, offset=16384), 2),
        (uneven, 2),
    ):
        views = layout.views(arena)
        assert len(views) == count
        for block in range(layout.blocks):
            joined = torch.cat([view[block].flatten() for view in views])
            ranges = [arena[r.start : r.stop] for r in block_ranges(layout, block)]
            assert torch.equal(joined, torch.cat(ranges))


def test_shells_overlay_and_ranges_of_one_shell_do_not():
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
    assert {shell: ids.tolist() for shell, ids in found.items()} == {"a": [0, 5]}
    with pytest.raises(ValueError, match=r"blocks of \['a'\]"):
        arena.claim("b", [0])
    arena.release("a", found["a"])
    arena.claim("b", [0, 1, 2])
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
        arena.register("d", block_major(9, 512, 1))
    with pytest.raises(ValueError, match="blocks 0 to 7"):
        arena.claim("a", [8])


LAYOUTS = {
    "one": block_major(8, 512, 3),
    "two": layer_major(9, 1024, 4),
    "three": layer_major(16, 768, 2, offset=8192),
    "four": block_major(5, 2048, 4),
}


class Overlays(RuleBasedStateMachine):
    """The owner table against a plain map from every byte to the shell and block it holds."""

    @initialize()
    def start(self):
        self.arena = KvArena(FakeDevice(), SIZE)
        self.owner = {}
        self.shells = []
        self.add_shell()
        self.add_shell()

    @rule()
    def add_shell(self):
        if len(self.shells) < len(LAYOUTS):
            shell = list(LAYOUTS)[len(self.shells)]
            self.arena.carve(shell, SIZE)
            self.arena.register(shell, LAYOUTS[shell])
            self.shells.append(shell)

    def draw(self, data):
        shell = data.draw(st.sampled_from(self.shells))
        blocks = st.lists(st.integers(0, LAYOUTS[shell].blocks - 1), max_size=5, unique=True)
        return shell, data.draw(blocks)

    def holders(self, shell, blocks):
        held = {
            self.owner.get(at) for b in blocks for r in block_ranges(LAYOUTS[shell], b) for at in r
        }
        return {(who, block) for who, block in held - {None} if who != shell}

    @rule(data=st.data())
    def evict_and_claim(self, data):
        shell, blocks = self.draw(data)
        found = self.arena.conflicts(shell, blocks)
        named = {(who, int(block)) for who, ids in found.items() for block in ids}
        assert named == self.holders(shell, blocks)
        clear = [block for block in blocks if not self.holders(shell, [block])]
        assert self.arena.unobstructed(shell, blocks).tolist() == clear
        for who, ids in found.items():
            self.arena.release(who, ids)
        self.owner = {at: who for at, who in self.owner.items() if who not in named}
        self.arena.claim(shell, blocks)
        for block in blocks:
            for part in block_ranges(LAYOUTS[shell], block):
                self.owner.update(dict.fromkeys(part, (shell, block)))

    @rule(data=st.data())
    def release(self, data):
        shell, blocks = self.draw(data)
        self.arena.release(shell, blocks)
        gone = {(shell, block) for block in blocks}
        self.owner = {at: who for at, who in self.owner.items() if who not in gone}

    @invariant()
    def residents_are_whole(self):
        if not hasattr(self, "arena"):
            return
        for shell in self.shells:
            ids = self.arena.resident(shell)
            assert ids.tolist() == sorted({b for who, b in self.owner.values() if who == shell})
            held = sum(who == shell for who, _ in self.owner.values())
            assert held == ids.size * LAYOUTS[shell].block_bytes
            assert ids.dtype == np.int64


TestOverlays = Overlays.TestCase
TestOverlays.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
