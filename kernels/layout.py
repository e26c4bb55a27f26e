"""The places of a KV block's bytes, for a cache of any shape and stride order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels.region import Region, join

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Plane:
    """One tensor of the cache; `address` is its distance in bytes from the first tensor.

    `order` permutes the dimensions: the block first, then the others as a slab has them.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int
    order: tuple[int, ...]

    def region(self, index: int) -> Region:
        """Return the bytes of tensor `index`, of which this is the plane, as a region."""
        dims = [(self.shape[d], self.strides[d] * self.itemsize) for d in self.order]
        return Region.of(index, dims[0][1], [*dims[1:], (self.itemsize, 1)])

    def fits(self, tensor: Tensor, first: int) -> bool:
        """Return whether this plane describes `tensor`, with the first tensor at `first`."""
        return bool(
            tensor.data_ptr() - first == self.address
            and tensor.shape == self.shape
            and tensor.stride() == self.strides
            and tensor.element_size() == self.itemsize
        )


@dataclass(frozen=True, slots=True)
class KvLayout:
    """A paged KV cache: `blocks` blocks of `block_bytes` bytes over some tensors.

    A block's slab is `block_bytes` contiguous bytes: tensor after tensor in the given order (layer
    by layer). Within a tensor, the dimensions other than the block go from the largest stride to
    the smallest, so that chunks are long. A cache with other strides can read such a slab only if
    the strides give the same order. The slab of a `portable` layout has the tensors' own order,
    and fits any strides.
    """

    blocks: int
    planes: tuple[Plane, ...]
    regions: tuple[Region, ...]

    @classmethod
    def of(
        cls, tensors: Sequence[Tensor], block_dim: int = 0, *, portable: bool = False
    ) -> KvLayout:
        """Return the layout of `tensors` of any strides and dtypes, with blocks along `block_dim`.

        Raises ValueError for tensors that differ in blocks or device, are empty or share bytes.
        """
        if not tensors:
            raise ValueError("a KV layout needs at least one tensor, got none")
        for index, tensor in enumerate(tensors):
            _check(index, tensor, tensors[0], block_dim)
        first = tensors[0].data_ptr()
        planes = tuple(_plane(t, t.data_ptr() - first, block_dim, portable) for t in tensors)
        places = [(t.untyped_storage().data_ptr(), t.data_ptr()) for t in tensors]
        if len({address for _, address in places}) < len(places):
            raise ValueError("two tensors start at the same byte: give layers that share KV once")
        blocks = planes[0].shape[block_dim]
        regions = join([plane.region(i) for i, plane in enumerate(planes)], places)
        if shared := [region for region in regions if region.overlaps(blocks)]:
            raise ValueError(f"blocks share bytes: expected distinct memory, got {shared[0]}")
        return cls(blocks, planes, regions)

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all tensors: the length of a slab."""
        return sum(region.nbytes for region in self.regions)

    @property
    def chunk(self) -> int:
        """Bytes of the shortest contiguous run of a block."""
        return min(region.chunk for region in self.regions)

    def check(self, tensors: Sequence[Tensor]) -> None:
        """Raise ValueError unless `tensors` have the shapes and places of this layout."""
        if len(tensors) != len(self.planes):
            raise ValueError(f"expected {len(self.planes)} tensors, got {len(tensors)}")
        first = tensors[0].data_ptr()
        for index, (plane, tensor) in enumerate(zip(self.planes, tensors, strict=True)):
            if not plane.fits(tensor, first):
                raise ValueError(
                    f"tensor {index} has another shape or place than {plane}: "
                    "derive a layout of its own with KvLayout.of"
                )


def _check(index: int, tensor: Tensor, first: Tensor, block_dim: int) -> None:
    shape = tuple(tensor.shape)
    if not 0 <= block_dim < len(shape):
        raise ValueError(f"tensor {index} of shape {shape} has no block dimension {block_dim}")
    if 0 in shape or shape[block_dim] != first.shape[block_dim]:
        raise ValueError(
            f"tensor {index} has shape {shape}: expected {first.shape[block_dim]} blocks along "
            f"dimension {block_dim} and no empty dimension"
        )
    if tensor.device != first.device:
        raise ValueError(f"tensor {index} is on {tensor.device}, the first one on {first.device}")


def _plane(tensor: Tensor, address: int, block_dim: int, portable: bool) -> Plane:
    shape, strides = tuple(tensor.shape), tuple(tensor.stride())
    rest = [dim for dim in range(len(shape)) if dim != block_dim]
    if not portable:
        rest.sort(key=lambda dim: (shape[dim] > 1, -strides[dim]))
    return Plane(address, shape, strides, tensor.element_size(), (block_dim, *rest))
