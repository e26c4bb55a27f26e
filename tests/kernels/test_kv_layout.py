"""What a layout says of a cache: chunks, regions, vLLM's stride orders, and what it refuses."""

import pytest

torch = pytest.importorskip("torch")

from kernels import KvLayout, batched_memcpy, reference  # noqa: E402
from kernels.chunks import ChunkTable  # noqa: E402
from tests.support.random_caches import apart, paged  # noqa: E402

# Layers, blocks, heads, tokens, content (K and V of a head): vLLM's logical order.
LAYERS, BLOCKS, HEADS, TOKENS, CONTENT = DIMS = (3, 7, 2, 4, 16)
ORDERS = {
    "LBHNC": (0, 1, 2, 3, 4),
    "LBNHC": (0, 1, 3, 2, 4),
    "LHBNC": (0, 2, 1, 3, 4),
    "BLHNC": (1, 0, 2, 3, 4),
    "BLNHC": (1, 0, 3, 2, 4),
    "BHLNC": (1, 2, 0, 3, 4),
}
PAGE = HEADS * TOKENS * CONTENT * 2
CHUNKS = {
    "LBHNC": (PAGE, LAYERS),
    "LBNHC": (PAGE, LAYERS),
    "LHBNC": (PAGE // HEADS, LAYERS * HEADS),
    "BLHNC": (PAGE * LAYERS, 1),
    "BLNHC": (PAGE * LAYERS, 1),
    "BHLNC": (PAGE // HEADS, LAYERS * HEADS),
}


@pytest.mark.parametrize("name", ORDERS)
def test_chunks_of_vllms_stride_orders(name):
    layout = paged(DIMS, ORDERS[name], dtype=torch.float16).layout
    assert (layout.chunk, layout.block_bytes // layout.chunk) == CHUNKS[name]
    assert len(layout.regions) == 1
    assert (layout.blocks, layout.block_bytes) == (BLOCKS, LAYERS * PAGE)


@pytest.mark.live
@pytest.mark.parametrize("name", ORDERS)
def test_vllms_own_views_have_these_chunks(name):
    pytest.importorskip("vllm")
    from vllm.v1 import kv_cache_interface as vllm

    spec = vllm.FullAttentionSpec(
        block_size=TOKENS, num_kv_heads=HEADS, head_size=CONTENT // 2, dtype=torch.float16
    )
    order = vllm.KVCacheLayout[name]
    strides = vllm.compute_layout_strides(spec, BLOCKS, LAYERS, order)
    tensor = vllm.KVCacheTensor(
        size=LAYERS * BLOCKS * PAGE,
        layers=[str(i) for i in range(LAYERS)],
        layer_stride=strides[0],
        block_stride=strides[1],
    )
    raw = torch.zeros(LAYERS * BLOCKS * PAGE, dtype=torch.int8)
    views = vllm.create_kv_cache_views(raw, spec, BLOCKS, order, tensor)
    layout = KvLayout.of(views)
    assert order.stride_order == ORDERS[name]
    assert (layout.chunk, layout.block_bytes // layout.chunk) == CHUNKS[name]


def test_k_and_v_apart_in_tensors_of_their_own():
    tensors = [torch.zeros(2, BLOCKS, TOKENS, HEADS, 8, dtype=torch.bfloat16) for _ in range(3)]
    layout = KvLayout.of(tensors, block_dim=1)
    assert layout.chunk == TOKENS * HEADS * 8 * 2
    assert [region.sizes for region in layout.regions] == [(2,)] * 3
    assert [region.slab_offset for region in layout.regions] == [
        0,
        2 * layout.chunk,
        4 * layout.chunk,
    ]


def test_hybrid_layers_of_two_shapes_make_two_regions():
    wide, narrow = paged([2, 5, 4, 8], [0, 1, 2, 3]), paged([3, 5, 2, 8], [0, 1, 2, 3])
    layout = apart([wide, narrow]).layout
    assert [(r.tensor, r.sizes, r.chunk) for r in layout.regions] == [(0, (2,), 32), (2, (3,), 16)]
    assert layout.block_bytes == 2 * 32 + 3 * 16


@pytest.mark.parametrize("picked", [[2, 1, 0], [0, 1, 3], [0, 2, 3], [3, 1, 2, 0]])
def test_layers_in_any_order_and_at_any_distance(picked):
    cache = paged([4, 5, 6], [0, 1, 2])
    tensors = [cache.tensors[i] for i in picked]
    layout = KvLayout.of(tensors)
    out = torch.zeros(2, layout.block_bytes, dtype=torch.uint8)
    batched_memcpy.gather(layout, tensors, [4, 1], out)
    expected = [torch.cat([tensor[block] for tensor in tensors]) for block in (4, 1)]
    assert torch.equal(out, torch.stack(expected))


@pytest.mark.parametrize(
    ("start", "room", "align"), [(0, 32, 16), (8, 32, 8), (2, 32, 2), (0, 36, 4)]
)
def test_the_words_of_a_copy_divide_addresses_and_strides(start, room, align):
    table = ChunkTable.of(KvLayout.of([torch.zeros(4, room, dtype=torch.uint8)[:, :16]]), [start])
    assert (table.unit, table.align) == (16, align)
    assert (table.addresses.tolist(), table.block_strides.tolist()) == ([start], [room])


def test_chunks_of_unlike_regions_are_listed_in_a_common_unit():
    wide, narrow = paged([2, 5, 4, 8], [0, 1, 2, 3]), paged([1, 5, 2, 24], [0, 1, 2, 3])
    layout = apart([wide, narrow]).layout
    table = ChunkTable.of(layout, [0, 160, 1000])
    assert (table.unit, table.addresses.tolist()) == (16, [0, 16, 160, 176, 1000, 1016, 1032])
    assert table.block_strides.tolist() == [32] * 4 + [48] * 3


def test_a_slab_has_the_memory_order_unless_portable():
    cache = paged([1, 4, 2, 3], [0, 1, 3, 2])
    out = torch.zeros(1, 6, dtype=torch.uint8)
    reference.gather(cache.layout, cache.tensors, [2], out)
    assert torch.equal(out[0].view(3, 2).T, cache.tensors[0][2])
    assert cache.layout.chunk == 6
    portable = KvLayout.of(cache.tensors, portable=True)
    reference.gather(portable, cache.tensors, [2], out)
    assert torch.equal(out[0].view(2, 3), cache.tensors[0][2])
    assert portable.chunk == 1


def two(first, second):
    return [torch.zeros(*first), torch.zeros(*second)]


BAD_TENSORS = [
    (lambda: [], 0, "at least one tensor"),
    (lambda: two((4, 2), (5, 2)), 0, r"tensor 1 has shape \(5, 2\): expected 4 blocks"),
    (lambda: two((4, 2), (4, 0)), 0, "no empty dimension"),
    (lambda: two((4, 2), (4,)), 1, "tensor 1 of shape .* has no block dimension 1"),
    (lambda: [torch.zeros(4, 2)] * 2, 0, "start at the same byte"),
    (lambda: [torch.zeros(1, 2).expand(4, 2)], 0, "blocks share bytes"),
    (lambda: [torch.zeros(9).as_strided((4, 3), (2, 1))], 0, "blocks share bytes"),
    (lambda: [torch.zeros(4, 2), torch.zeros(4, 2, device="meta")], 0, "tensor 1 is on meta"),
]


@pytest.mark.parametrize(("tensors", "block_dim", "message"), BAD_TENSORS)
def test_tensors_that_are_no_cache_are_refused(tensors, block_dim, message):
    with pytest.raises(ValueError, match=message):
        KvLayout.of(tensors(), block_dim)


def test_tensors_that_lie_otherwise_are_refused():
    cache = paged([2, 5, 6], [0, 1, 2])
    same = paged([2, 5, 6], [0, 1, 2])
    cache.layout.check(same.tensors)
    assert same.layout == cache.layout
    with pytest.raises(ValueError, match="expected 2 tensors, got 1"):
        cache.layout.check(cache.tensors[:1])
    for other in (
        [tensor.clone() for tensor in cache.tensors],
        paged([2, 5, 7], [0, 1, 2]).tensors,
        paged([2, 5, 6], [1, 0, 2]).tensors,
        list(reversed(cache.tensors)),
        [tensor.as_strided((5, 6), (1, 5)) for tensor in cache.tensors],
        [tensor.view(torch.int8).narrow(1, 0, 5) for tensor in cache.tensors],
    ):
        with pytest.raises(ValueError, match="has another shape or place"):
            cache.layout.check(other)
