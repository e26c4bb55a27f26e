"""All variants copy what the reference copies, and the reference copies the named blocks."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import kernels  # noqa: E402
from kernels import KvLayout, batched_memcpy, reference  # noqa: E402
from kernels.moves import scattered  # noqa: E402
from tests.support.random_caches import caches, moves, paged, random_bytes  # noqa: E402

FEW = settings(max_examples=15, deadline=None)
MANY = settings(max_examples=80, deadline=None)


class Queued:
    """The plain copies as they are queued for a CUDA device, run on a CPU."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch

    def __getattr__(self, name):
        def copy(*arguments):
            with self.monkeypatch.context() as patch:
                patch.setattr(batched_memcpy, "_on_host", batched_memcpy._queued)
                getattr(batched_memcpy, name)(*arguments)

        return copy


class Staged:
    """The Triton kernels with a staging buffer."""

    def __init__(self, interpreted):
        self.interpreted = interpreted

    def __getattr__(self, name):
        def copy(layout, tensors, ids, slabs, rows=None):
            staging = random_bytes(len(ids) + 1, layout.block_bytes)
            variant = getattr(self.interpreted, name)
            variant(layout, tensors, ids, slabs, rows, staging=staging)

        return copy


@pytest.fixture(scope="module")
def variants(interpreted):
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield {
            "dispatch": kernels,
            "plain": batched_memcpy,
            "queued": Queued(monkeypatch),
            "triton": interpreted,
            "staged": Staged(interpreted),
        }


def gathers_alike(variants, cache, ids, rows, room):
    before = random_bytes(room, cache.layout.block_bytes)
    expected = before.clone()
    reference.gather(cache.layout, cache.tensors, ids, expected, rows)
    for name, variant in variants.items():
        out = before.clone()
        variant.gather(cache.layout, cache.tensors, ids, out, rows)
        assert torch.equal(out, expected), name


def scatters_alike(variants, cache, ids, rows, room):
    source = random_bytes(room, cache.layout.block_bytes)
    expected = cache.to("cpu")
    reference.scatter(expected.layout, expected.tensors, ids, source, rows)
    for name, variant in variants.items():
        target = cache.to("cpu")
        variant.scatter(target.layout, target.tensors, ids, source, rows)
        for got, wanted in zip(target.buffers, expected.buffers, strict=True):
            assert torch.equal(got, wanted), name


@MANY
@given(data=st.data(), cache=caches())
def test_plain_copies_equal_the_reference(variants, data, cache):
    plain = {name: variants[name] for name in ("dispatch", "plain", "queued")}
    selection = data.draw(moves(cache.layout))
    gathers_alike(plain, cache, *selection)
    scatters_alike(plain, cache, *selection)


@FEW
@given(data=st.data(), cache=caches())
def test_triton_copies_equal_the_reference(variants, data, cache):
    triton = {name: variants[name] for name in ("triton", "staged")}
    selection = data.draw(moves(cache.layout))
    gathers_alike(triton, cache, *selection)
    scatters_alike(triton, cache, *selection)


def test_chunks_longer_than_a_tile_and_no_power_of_two(variants):
    cache = paged([2, 3, 2, 3001], [0, 1, 2, 3], dtype=torch.int64, pads=[0, 0, 1, 0])
    assert cache.layout.chunk == 2 * 3001 * 8
    gathers_alike(variants, cache, [2, 0], [0, 1], 2)
    scatters_alike(variants, cache, [2, 0], [0, 1], 2)


@pytest.mark.parametrize("start", [1, 2, 4, 8])
def test_slabs_at_any_alignment(variants, start):
    cache = paged([2, 4, 48], [0, 1, 2])
    block = cache.layout.block_bytes
    flat = torch.zeros(3 * (block + start) + start, dtype=torch.uint8)
    for variant in variants.values():
        flat.zero_()
        slabs = flat.as_strided((3, block), (block + start, 1), start)
        variant.gather(cache.layout, cache.tensors, [3, 1, 2], slabs)
        assert all(torch.equal(slabs[i], cache.block(b)) for i, b in enumerate([3, 1, 2]))
        assert flat[:start].count_nonzero() == 0
        assert flat[start + block : 2 * start + block].count_nonzero() == 0


@MANY
@given(data=st.data(), cache=caches())
def test_the_reference_gathers_the_bytes_of_the_named_blocks(data, cache):
    cache.layout = KvLayout.of(cache.tensors, cache.block_dim, portable=True)
    ids, rows, room = data.draw(moves(cache.layout))
    out = torch.zeros(room, cache.layout.block_bytes, dtype=torch.uint8)
    reference.gather(cache.layout, cache.tensors, ids, out, rows)
    for index, row in zip(ids, rows, strict=True):
        assert torch.equal(out[row], cache.block(index))
    unnamed = [row for row in range(room) if row not in rows]
    assert out[unnamed].count_nonzero() == 0


@MANY
@given(data=st.data(), cache=caches())
def test_nothing_outside_the_named_blocks_is_touched(data, cache):
    ids, rows, room = data.draw(moves(cache.layout))
    for buffer in cache.buffers:
        buffer.zero_()
    source = torch.full((room, cache.layout.block_bytes), 0xA5, dtype=torch.uint8)
    kernels.scatter(cache.layout, cache.tensors, ids, source, rows)
    written = sum(int((buffer == 0xA5).sum()) for buffer in cache.buffers)
    assert written == len(ids) * cache.layout.block_bytes
    for index in range(cache.layout.blocks):
        assert bool((cache.block(index) == 0xA5).all()) == (index in ids)


@MANY
@given(data=st.data(), cache=caches())
def test_a_round_trip_restores_the_cache(data, cache):
    ids, rows, room = data.draw(moves(cache.layout))
    before = [buffer.clone() for buffer in cache.buffers]
    slabs = random_bytes(room, cache.layout.block_bytes)
    kernels.gather(cache.layout, cache.tensors, ids, slabs, rows)
    noise = random_bytes(room, cache.layout.block_bytes)
    kernels.scatter(cache.layout, cache.tensors, ids, noise, rows)
    kernels.scatter(cache.layout, cache.tensors, ids, slabs, rows)
    assert all(torch.equal(b, a) for b, a in zip(cache.buffers, before, strict=True))


@MANY
@given(data=st.data(), cache=caches())
def test_clearing_zeroes_the_named_blocks_and_nothing_else(data, cache):
    ids, _, _ = data.draw(moves(cache.layout))
    for buffer in cache.buffers:
        buffer.fill_(0xA5)
    kernels.clear(cache.layout, cache.tensors, ids)
    cleared = sum(int((buffer == 0).sum()) for buffer in cache.buffers)
    assert cleared == len(ids) * cache.layout.block_bytes
    assert all(cache.block(index).count_nonzero() == 0 for index in ids)
    with pytest.raises(ValueError, match="out of range"):
        kernels.clear(cache.layout, cache.tensors, [cache.layout.blocks])


@MANY
@given(data=st.data())
def test_stretches_of_neighbours_hold_every_pair_once(data):
    here = data.draw(st.lists(st.integers(0, 12), unique=True))
    there = data.draw(st.permutations(range(20)))[: len(here)]
    found = scattered(np.array(here, dtype=np.int64), np.array(there, dtype=np.int64))
    pairs, everywhere = {}, np.arange(40)
    for run, places in found:
        assert run.stop not in here
        assert run.start - 1 not in here
        assert isinstance(places, slice) == (run.stop - run.start == 1)
        where = everywhere[places].tolist()
        pairs.update(zip(everywhere[run].tolist(), where, strict=True))
    assert pairs == dict(zip(here, there, strict=True))


@pytest.mark.parametrize("name", ["gather", "scatter"])
def test_many_blocks_of_one_chunk_are_one_call(monkeypatch, name):
    cache = paged([1, 40, 64], [0, 1, 2])
    ids = torch.randperm(40)[:20].sort().values
    calls = []
    real = batched_memcpy.scattered

    def counted(*arguments):
        calls.append(len(real(*arguments)))
        return real(*arguments)

    monkeypatch.setattr(batched_memcpy, "scattered", counted)
    slabs = random_bytes(20, cache.layout.block_bytes)
    getattr(kernels, name)(cache.layout, cache.tensors, ids, slabs)
    assert min(calls) == 1
    assert torch.equal(slabs, torch.stack([cache.block(block) for block in ids]))


def test_portable_slabs_move_between_stride_orders(variants):
    dims = [2, 5, 3, 4]
    source = paged(dims, [0, 1, 2, 3], portable=True)
    target = paged(dims, [3, 1, 0, 2], portable=True)
    for variant in variants.values():
        slabs = torch.zeros(2, source.layout.block_bytes, dtype=torch.uint8)
        variant.gather(source.layout, source.tensors, [4, 1], slabs)
        variant.scatter(target.layout, target.tensors, [0, 3], slabs)
        assert torch.equal(target.block(0), source.block(4))
        assert torch.equal(target.block(3), source.block(1))


def test_ids_may_be_a_tensor_and_may_be_none_at_all(variants):
    cache = paged([2, 5, 6], [0, 1, 2])
    for variant in variants.values():
        out = torch.zeros(2, cache.layout.block_bytes, dtype=torch.uint8)
        variant.gather(cache.layout, cache.tensors, torch.tensor([3, 0]), out)
        assert torch.equal(out, torch.stack([cache.block(3), cache.block(0)]))
        none = torch.zeros(0, cache.layout.block_bytes, dtype=torch.uint8)
        variant.gather(cache.layout, cache.tensors, [], none)
        variant.scatter(cache.layout, cache.tensors, [], none)


BAD_MOVES = [
    ([1, 1], None, "block 1 is named twice"),
    ([0, 5], None, "block 5 is out of range: there are 5"),
    ([-1, 0], None, "block -1 is out of range"),
    ([0, 1], [1, 1], "slab row 1 is named twice"),
    ([0, 1], [0, 2], "slab row 2 is out of range: there are 2"),
    ([0], None, "1 blocks for 2 slab rows"),
    ([0, 1], [0], "2 blocks for 1 slab rows"),
    ([0.0, 1.0], None, "flat list of integer block ids"),
    ([[0], [1]], None, "flat list of integer block ids"),
]


@pytest.mark.parametrize(("ids", "rows", "message"), BAD_MOVES)
def test_bad_ids_are_refused_before_a_byte_moves(variants, ids, rows, message):
    cache = paged([2, 5, 6], [0, 1, 2])
    for variant in (*variants.values(), reference):
        out = torch.zeros(2, cache.layout.block_bytes, dtype=torch.uint8)
        before = cache.buffers[0].clone()
        with pytest.raises(ValueError, match=message):
            variant.gather(cache.layout, cache.tensors, ids, out, rows)
        with pytest.raises(ValueError, match=message):
            variant.scatter(cache.layout, cache.tensors, ids, out + 1, rows)
        assert out.count_nonzero() == 0
        assert torch.equal(cache.buffers[0], before)


def test_slabs_of_another_shape_are_refused(variants):
    cache = paged([2, 5, 6], [0, 1, 2])
    size = cache.layout.block_bytes
    slabs = [
        torch.zeros(2, size + 1, dtype=torch.uint8),
        torch.zeros(2, size, dtype=torch.int16),
        torch.zeros(2 * size, dtype=torch.uint8),
        torch.zeros(size, 2, dtype=torch.uint8).T,
        torch.zeros(1, size, dtype=torch.uint8).expand(2, size),
    ]
    for variant in variants.values():
        for bad in slabs:
            with pytest.raises(ValueError, match=r"expected uint8 slabs of shape \(rows, 12\)"):
                variant.gather(cache.layout, cache.tensors, [0, 1], bad)


def test_a_staging_buffer_too_small_is_refused(interpreted):
    cache = paged([2, 5, 6], [0, 1, 2])
    out = torch.zeros(2, cache.layout.block_bytes, dtype=torch.uint8)
    with pytest.raises(ValueError, match="expected 2 staging rows on cpu"):
        interpreted.gather(cache.layout, cache.tensors, [0, 1], out, staging=out[:1])
