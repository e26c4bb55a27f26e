import itertools
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

torch = pytest.importorskip("torch")

from aegaeon.errors import UserError  # noqa: E402
from aegaeon.kv_ledger import PoolFull  # noqa: E402
from aegaeon.live.memory.kv_pool import KvPool  # noqa: E402
from aegaeon.live.memory.shared import SharedDirectory  # noqa: E402
from tests.support.fake_device import FakeDevice  # noqa: E402

ROOT = Path(__file__).parents[3]
SLAB, SLABS = 1 << 10, 5
SIZES = (96, 128, 340)


@pytest.fixture
def shared(tmp_path):
    with SharedDirectory.create("pool", tmp_path) as directory:
        yield directory


@pytest.fixture
def pool(shared):
    pool = KvPool.create(shared, SLAB, SLABS)
    yield pool
    pool.close()


def test_blocks_of_one_size_fill_a_slab_and_return_it(pool):
    first = pool.alloc(100, 10)
    assert len({offset // SLAB for offset in first}) == 1
    second = pool.alloc(100, 1)
    assert second[0] // SLAB != first[0] // SLAB
    pool.free(second)
    assert pool.stats()[100].allocated == SLAB
    pool.free(first)
    assert pool.stats()[100].allocated == 0
    assert len(pool.alloc(SLAB, SLABS)) == SLABS


def test_a_slab_is_rows_of_blocks(pool):
    for offset in pool.alloc(100, 12):
        slab, within = divmod(offset, SLAB)
        pool.block(offset, 100).fill_(offset % 251)
        assert pool.rows(slab, 100).shape == (SLAB // 100, 100)
        assert bool((pool.rows(slab, 100)[within // 100] == offset % 251).all())


def test_fullest_slab_is_filled_first_so_that_others_run_empty(pool):
    blocks = pool.alloc(256, 8)
    by_slab = [blocks[:4], blocks[4:]]
    pool.free(by_slab[0][:3])
    pool.free(by_slab[1][:1])
    assert pool.alloc(256, 1)[0] // SLAB == by_slab[1][0] // SLAB


def test_statistics_give_figure_16(pool):
    blocks = pool.alloc(300, 6)
    pool.free(blocks[1:3])
    use = pool.stats()[300]
    assert (use.used, use.allocated) == (4 * 300, 2 * SLAB)
    assert (use.peak_used, use.peak_allocated) == (6 * 300, 2 * SLAB)


def test_a_full_pool_says_what_is_left(pool):
    pool.alloc(128, 8 * SLABS - 3)
    with pytest.raises(PoolFull, match="4 blocks of 128 bytes are asked for, room is left for 3"):
        pool.alloc(128, 4)
    with pytest.raises(PoolFull, match="room is left for 0"):
        pool.alloc(256, 1)
    assert len(pool.alloc(128, 3)) == 3


def test_requests_that_can_never_fit_are_not_pool_full(pool):
    for size, count, message in (
        (128, 8 * SLABS + 1, "all 5 slabs of 1,024 bytes hold 40"),
        (SLAB + 1, 1, "slabs of 1,024 bytes take blocks of 1 to 1,024"),
        (0, 1, "choose other slabs"),
    ):
        with pytest.raises(UserError, match=message) as refusal:
            pool.alloc(size, count)
        assert not isinstance(refusal.value, PoolFull)
    assert all(use.used == 0 for use in pool.stats().values())


def test_a_pool_that_memory_cannot_hold_is_refused(shared):
    with pytest.raises(UserError, match=r"bytes of shared memory are needed|slabs of a byte"):
        KvPool.create(shared, 0, 1)
    with pytest.raises(UserError, match="holds no KV pool named kv"):
        KvPool.attach(shared)


def test_wrong_frees_change_nothing(pool):
    blocks = pool.alloc(100, 3)
    for wrong in (
        [blocks[0] + 1],
        [blocks[0], blocks[0]],
        [SLAB * SLABS],
        [-100],
        [blocks[2] + 100],
    ):
        with pytest.raises(ValueError, match=r"no block in use|named twice"):
            pool.free(wrong)
    assert pool.stats()[100].used == 300
    pool.free(blocks)
    with pytest.raises(ValueError, match="no block in use"):
        pool.free(blocks)


def test_allocation_does_not_wait_for_a_copy_in_flight(shared):
    device = FakeDevice()
    pool = KvPool.create(shared, SLAB, 1, device)
    block, stream = pool.alloc(SLAB, 1), device.stream()
    stream.copy(pool.block(block[0], SLAB), torch.ones(SLAB, dtype=torch.uint8))
    pool.copying(block, stream.record())
    pool.free(block)
    with pytest.raises(ValueError, match="twice"):
        pool.free(block)
    assert pool.reclaim() == 1
    with pytest.raises(PoolFull):
        pool.alloc(SLAB, 1)
    device.run_all()
    assert pool.alloc(SLAB, 1) == block


def test_closing_waits_for_copies_and_unpins(shared):
    device = FakeDevice()
    pool = KvPool.create(shared, SLAB, 1, device)
    watcher = KvPool.attach(shared, FakeDevice())
    block = pool.alloc(SLAB, 1)
    assert device.registered
    pool.copying(block, device.stream().record())
    pool.free(block)
    pool.close()
    pool.close()
    assert not device.registered
    assert watcher.stats()[SLAB].used == 0


def test_another_process_reads_and_frees_the_blocks(shared, pool):
    blocks = pool.alloc(100, 4)
    for number, offset in enumerate(blocks):
        pool.block(offset, 100).fill_(number + 1)
    script = (
        "import sys\n"
        "from aegaeon.live.memory.kv_pool import KvPool\n"
        "from aegaeon.live.memory.shared import SharedDirectory\n"
        "pool = KvPool.attach(SharedDirectory.attach(sys.argv[1]))\n"
        "blocks = [int(word) for word in sys.argv[2:]]\n"
        "print(*[int(pool.block(offset, 100).sum()) for offset in blocks], *pool.alloc(100, 2))\n"
        "pool.free(blocks)\n"
    )
    command = [sys.executable, "-c", script, str(shared.path), *map(str, blocks)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    numbers = [int(word) for word in done.stdout.split()]
    assert numbers[:4] == [100, 200, 300, 400]
    assert set(numbers[4:]).isdisjoint(blocks)
    assert pool.stats()[100].used == 200


def test_the_books_are_right_under_contention(shared, pool):
    pools, twice, held, finished = [pool, KvPool.attach(shared)], [], set(), []

    def work(mine):
        for _ in range(150):
            blocks = mine.alloc(128, 3)
            if not held.isdisjoint(blocks):
                twice.append(blocks)
            held.update(blocks)
            held.difference_update(blocks)
            mine.free(blocks)
        finished.append(mine)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(each,)) for each in pools * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(finished) == 4
    assert twice == []
    assert pool.stats()[128].used == 0
    assert pool.stats()[128].allocated == 0


class Moves(RuleBasedStateMachine):
    """Two processes' views of one pool; copies in flight write their owner's mark when they run."""

    @initialize()
    def start(self):
        self.device = FakeDevice()
        self.folder = tempfile.TemporaryDirectory()
        self.shared = SharedDirectory.create("moves", Path(self.folder.name))
        first = KvPool.create(self.shared, SLAB, SLABS, self.device)
        self.pools = [first, KvPool.attach(self.shared, self.device)]
        self.stream = self.device.stream()
        self.live = {}
        self.leaving = {}
        self.in_flight = []
        self.mark = 0

    @rule(which=st.integers(0, 1), size=st.sampled_from(SIZES), count=st.integers(1, 9))
    def alloc(self, which, size, count):
        taken = {**self.live, **self.leaving}
        try:
            offsets = self.pools[which].alloc(size, count)
        except PoolFull:
            bound = {o // SLAB: s for o, s in taken.items()}
            mine = sum(s == size for s in taken.values())
            slabs = SLABS - len(bound) + sum(s == size for s in bound.values())
            assert slabs * (SLAB // size) - mine < count
            return
        self.settle()
        assert len(set(offsets)) == count
        assert not set(offsets) & {*self.live, *self.leaving}
        self.live.update(dict.fromkeys(offsets, size))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def copy(self, data):
        offset = data.draw(st.sampled_from(sorted(self.live)))
        self.mark = self.mark % 250 + 1
        source = torch.full((self.live[offset],), self.mark, dtype=torch.uint8)
        pool = self.pools[data.draw(st.integers(0, 1))]
        self.stream.copy(pool.block(offset, self.live[offset]), source)
        event = self.stream.record()
        pool.copying([offset], event)
        self.in_flight.append((offset, event, pool))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), count=st.integers(1, 6))
    def free(self, data, count):
        owned = sorted(self.live)
        # Who started a copy frees the block, as a request's blocks move with the request.
        copiers = {offset: pool for offset, event, pool in self.pending()}
        offset = data.draw(st.sampled_from(owned))
        pool = copiers.get(offset, self.pools[0])
        mine = [o for o in owned if copiers.get(o, pool) is pool and o >= offset][:count]
        for each in mine:
            size = self.live.pop(each)
            if each in copiers:
                self.leaving[each] = size
        pool.free(mine)

    @rule(steps=st.integers(1, 6))
    def run_copies(self, steps):
        for _ in range(steps):
            self.stream.advance()
        for pool in self.pools:
            pool.reclaim()
        self.settle()

    def pending(self):
        return [entry for entry in self.in_flight if not entry[1].done()]

    def settle(self):
        busy = {offset for offset, _, _ in self.pending()}
        self.leaving = {o: s for o, s in self.leaving.items() if o in busy}

    @invariant()
    def bytes_are_conserved_and_nothing_in_flight_is_free(self):
        if not hasattr(self, "pools"):
            return
        self.settle()
        taken = {**self.live, **self.leaving}
        ranges = sorted((offset, offset + size) for offset, size in taken.items())
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
        stats = self.pools[0].stats()
        for size in SIZES:
            blocks = [offset for offset, held in taken.items() if held == size]
            slabs = {offset // SLAB for offset in blocks}
            if use := stats.get(size):
                assert use.used == len(blocks) * size
                assert use.allocated == len(slabs) * SLAB
                assert use.peak_used >= use.used
            else:
                assert not blocks

    def teardown(self):
        if hasattr(self, "pools"):
            self.device.run_all()
            self.pools[0].free(sorted(self.live))
            for pool in self.pools:
                pool.close()
            self.shared.close()
            self.folder.cleanup()


TestMoves = Moves.TestCase
TestMoves.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
