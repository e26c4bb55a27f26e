"""Host weight cache: one packed copy of each model per node, in shared memory (paper section 5.2).

All instance processes of a node map the same copy. A copy gets its name when it is complete, and
has checksums. Copies that no process has open are evicted for others, least recently used first.
A process that has a copy open holds a shared file lock, which the kernel drops with the process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock

from aegaeon.errors import UserError
from aegaeon.live.memory.device import CpuDevice, Device
from aegaeon.live.memory.shared import SharedDirectory, create_file, map_file, try_lock
from aegaeon.live.memory.weight_layout import WeightLayout, align_up

CRC_BYTES = 16 << 20
_FOOTER = struct.Struct("<8sQ")
_MAGIC = b"AEGAEON1"


class HostWeights:
    """One model's packed bytes on the host; keep it open while a switch may read them."""

    def __init__(self, path: Path, descriptor: int, nbytes: int, device: Device) -> None:
        self.path = path
        self.bytes = torch.frombuffer(map_file(descriptor, nbytes), dtype=torch.uint8)
        self._descriptor = descriptor
        self._device = device
        device.register(self.bytes)

    def close(self) -> None:
        """Allow eviction; the memory is freed with the last tensor that views it."""
        if self._descriptor >= 0:
            self._device.unregister(self.bytes)
            os.close(self._descriptor)
            self._descriptor = -1
            del self.bytes

    def __enter__(self) -> HostWeights:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class WeightCache:
    """The copies of one node, at most `budget_bytes` together; `readers` threads load and check.

    The key of a copy is its checkpoint, the digest of its layout and `variant`, which names what
    the others do not tell: tensor-parallel rank, the order of elements that kernels take.
    """

    def __init__(
        self,
        shared: SharedDirectory,
        budget_bytes: int,
        device: Device | None = None,
        readers: int = 4,
    ) -> None:
        self._folder = shared.path / "weights"
        self._folder.mkdir(exist_ok=True)
        self._budget = budget_bytes
        self._device = device or CpuDevice()
        self._readers = readers

    def get(
        self, checkpoint: str | Path, layout: WeightLayout, variant: str = "", verify: bool = True
    ) -> HostWeights | None:
        """Open the copy if the node has one; UserError if `verify` finds that it was damaged."""
        return self._open_copy(self._path(checkpoint, layout, variant), layout.nbytes, verify)

    def put(
        self, checkpoint: str | Path, layout: WeightLayout, packed: torch.Tensor, variant: str = ""
    ) -> HostWeights:
        """Open the copy, made of `packed`, uint8 [layout.nbytes], if the node has none."""
        path = self._path(checkpoint, layout, variant)
        return self._open_or_make(path, layout.nbytes, lambda out: out.copy_(packed))

    def pack(
        self,
        checkpoint: str | Path,
        layout: WeightLayout,
        module: torch.nn.Module,
        variant: str = "",
    ) -> HostWeights:
        """Open the copy, packed from a loaded module without a copy between if there is none."""
        path = self._path(checkpoint, layout, variant)
        return self._open_or_make(path, layout.nbytes, lambda out: layout.pack(module, out))

    def has_copies(self, checkpoint: str | Path, variant: str = "") -> bool:
        """Return whether the node has a copy of this checkpoint and variant, of some layout."""
        return any(self._folder.glob(f"{_stem(checkpoint, variant)}-*.weights"))

    def _path(self, checkpoint: str | Path, layout: WeightLayout, variant: str) -> Path:
        return self._folder / f"{_stem(checkpoint, variant)}-{layout.digest[:32]}.weights"

    def _open_copy(self, path: Path, nbytes: int, verify: bool) -> HostWeights | None:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not os.fstat(descriptor).st_nlink:
            os.close(descriptor)
            return None
        os.utime(descriptor)
        weights = HostWeights(path, descriptor, nbytes, self._device)
        if verify and not self._intact(weights.bytes, descriptor):
            weights.close()
            raise UserError(f"{path}: the shared copy of the weights was damaged; start a new run")
        return weights

    def _open_or_make(
        self, path: Path, nbytes: int, fill: Callable[[torch.Tensor], object]
    ) -> HostWeights:
        with FileLock(path.with_suffix(".lock")):
            weights = self._open_copy(path, nbytes, verify=True)
            return weights or self._make(path, nbytes, fill)

    def _make(self, path: Path, nbytes: int, fill: Callable[[torch.Tensor], object]) -> HostWeights:
        partial = path.with_suffix(".partial")
        descriptor = self._reserve(partial, nbytes)
        try:
            packed = torch.frombuffer(map_file(descriptor, nbytes), dtype=torch.uint8)
            fill(packed)
            sums = self._checksums(packed)
            os.pwrite(descriptor, sums.tobytes() + _FOOTER.pack(_MAGIC, nbytes), align_up(nbytes))
            weights = HostWeights(path, descriptor, nbytes, self._device)
            os.rename(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return weights

    def _reserve(self, partial: Path, nbytes: int) -> int:
        """Evict what has to go, and return a locked file of the copy's size."""
        total = align_up(nbytes) + 4 * _chunks(nbytes) + _FOOTER.size
        with FileLock(self._folder / "budget.lock"):
            partial.unlink(missing_ok=True)
            self._evict(total)
            descriptor = create_file(partial, total)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        return descriptor

    def _evict(self, needed: int) -> None:
        sizes = self._sizes()
        used = sum([size for _, size in sizes])
        for path, size in sizes:
            if used + needed <= self._budget:
                return
            if _remove_if_unused(path):
                used -= size
        if used + needed > self._budget:
            raise UserError(
                f"host weight cache: a model takes {needed:,} bytes, the budget is "
                f"{self._budget:,} of which {used:,} are in use; raise the budget or use fewer "
                "models at a time"
            )

    def _sizes(self) -> list[tuple[Path, int]]:
        """Return the files and their sizes, least recently opened first."""
        found = []
        for path in self._folder.iterdir():
            if path.suffix in (".weights", ".partial"):
                status = _status(path)
                if status is not None:
                    found.append((status.st_mtime_ns, path, status.st_size))
        return [(path, size) for _, path, size in sorted(found)]

    def _checksums(self, packed: torch.Tensor) -> npt.NDArray[np.uint32]:
        view = packed.numpy()
        starts = range(0, view.size, CRC_BYTES)
        with ThreadPoolExecutor(self._readers) as pool:
            sums = list(pool.map(lambda at: zlib.crc32(view[at : at + CRC_BYTES]), starts))
        return np.array(sums, dtype=np.uint32)

    def _intact(self, packed: torch.Tensor, descriptor: int) -> bool:
        count = _chunks(packed.numel())
        tail = os.pread(descriptor, 4 * count + _FOOTER.size, align_up(packed.numel()))
        expected = self._checksums(packed).tobytes() + _FOOTER.pack(_MAGIC, packed.numel())
        return tail == expected


def _stem(checkpoint: str | Path, variant: str) -> str:
    """Name a checkpoint by path, sizes and times: a new one in its place gets another name."""
    place = Path(checkpoint)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    lines = [variant, str(place.resolve()) if place.exists() else str(checkpoint)]
    for file in files:
        status = _status(file)
        if status is not None and file.suffix in (".safetensors", ".json", ".bin"):
            lines.append(f"{file.name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def _chunks(nbytes: int) -> int:
    return -(-nbytes // CRC_BYTES)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _remove_if_unused(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        if not try_lock(descriptor, exclusive=True):
            return False
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)
