"""Random paged caches: any dimensions in any physical order, with gaps, in one or two buffers."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from kernels import KvLayout

DTYPES = (torch.uint8, torch.float8_e4m3fn, torch.bfloat16, torch.float32, torch.int64)


@dataclass
class Cache:
    """The buffers (bytes) behind a cache, its tensors, and its layout."""

    buffers: list[torch.Tensor]
    tensors: list[torch.Tensor]
    layout: KvLayout
    block_dim: int

    def to(self, device):
        """Return a copy of the cache on `device`."""
        buffers = [buffer.to(device, copy=True) for buffer in self.buffers]
        starts = [buffer.untyped_storage().data_ptr() for buffer in self.buffers]
        tensors = []
        for tensor in self.tensors:
            home = buffers[starts.index(tensor.untyped_storage().data_ptr())]
            place = (tensor.shape, tensor.stride(), tensor.storage_offset())
            tensors.append(home.view(tensor.dtype).as_strided(*place))
        portable = self.layout != KvLayout.of(self.tensors, self.block_dim)
        layout = KvLayout.of(tensors, self.block_dim, portable=portable)
        return Cache(buffers, tensors, layout, self.block_dim)

    def block(self, index):
        """Return the bytes of one block in the tensors' own order: a portable slab."""
        parts = [tensor.select(self.block_dim, index).flatten() for tensor in self.tensors]
        return torch.cat(
            [part.new_empty(len(part)).copy_(part).view(torch.uint8) for part in parts]
        )


def paged(dims, order, *, pads=None, dtype=torch.uint8, block_dim=0, portable=False):
    """Return a cache of logical `dims` (layer first), physically in `order`.

    `pads` is the number of unused elements per dimension. Every byte of the one buffer is random.
    """
    pads = pads or [0] * len(dims)
    room = [dims[d] + pads[d] for d in order]
    buffer = random_bytes(torch.Size(room).numel() * dtype.itemsize)
    logical = buffer.view(dtype).view(room).permute([order.index(d) for d in range(len(dims))])
    for dim, (size, pad) in enumerate(zip(dims, pads, strict=True)):
        logical = logical.narrow(dim, pad, size)
    tensors = list(logical.unbind(0))
    return Cache([buffer], tensors, KvLayout.of(tensors, block_dim, portable=portable), block_dim)


def apart(caches):
    """Return caches of one block dimension as one cache over several buffers and shapes."""
    tensors = [tensor for cache in caches for tensor in cache.tensors]
    buffers = [buffer for cache in caches for buffer in cache.buffers]
    block_dim = caches[0].block_dim
    return Cache(buffers, tensors, KvLayout.of(tensors, block_dim), block_dim)


def random_bytes(*shape):
    """Return random uint8; tests need only that bytes differ from place to place."""
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@st.composite
def caches(draw):
    """Draw a cache of one to three layers, in one buffer or one per part."""
    count = draw(st.integers(2, 4))
    block_dim = draw(st.integers(0, count - 1))
    blocks = draw(st.integers(1, 6))
    parts = []
    for _ in range(draw(st.integers(1, 2))):
        dims = [draw(st.integers(1, 3)), *(draw(st.integers(1, 4)) for _ in range(count))]
        dims[block_dim + 1] = blocks
        order = draw(st.permutations(range(count + 1)))
        pads = [draw(st.sampled_from((0, 0, 1))) for _ in dims]
        dtype = draw(st.sampled_from(DTYPES))
        parts.append(paged(dims, order, pads=pads, dtype=dtype, block_dim=block_dim))
    if len(parts) > 1:
        return apart(parts)
    if draw(st.booleans()):
        parts[0].layout = KvLayout.of(parts[0].tensors, block_dim, portable=True)
    return parts[0]


@st.composite
def moves(draw, layout):
    """Draw distinct block ids, the same number of distinct rows, and the slabs' number of rows."""
    ids = draw(st.permutations(range(layout.blocks)))[: draw(st.integers(0, layout.blocks))]
    room = len(ids) + draw(st.integers(0, 2))
    rows = draw(st.permutations(range(room)))[: len(ids)]
    return ids, rows, room
