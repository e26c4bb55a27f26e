"""What differs between CUDA and a CPU: streams, events, page-locked memory, copies.

The other modules of this package use these protocols only (paper section 5.3, table 2). The device
for tests implements them with copies that complete when a test says so.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch

from aegaeon.errors import UserError


class StreamEvent(Protocol):
    """A point in a stream's work."""

    def done(self) -> bool:
        """Return whether all work recorded before the event has completed; never waits."""

    def synchronize(self) -> None:
        """Block the calling thread until the event is done."""


class Stream(Protocol):
    """A queue of copies that complete in order, asynchronously to the caller where possible."""

    def copy(self, dst: torch.Tensor, src: torch.Tensor) -> None:
        """Queue a copy of equal shapes; the caller keeps both alive until a later event is done."""

    def launch(self, work: Callable[[], object]) -> None:
        """Queue what `work` does: on CUDA what it launches on torch's current stream."""

    def record(self) -> StreamEvent:
        """Return an event that is done when all work queued so far is."""

    def wait(self, event: StreamEvent) -> None:
        """Make work queued from now on start after `event`, without blocking the caller."""


class Device(Protocol):
    """Where models run; `fixed_addresses` says that captured graphs forbid re-pointing views."""

    name: str
    fixed_addresses: bool

    def reserve(self, nbytes: int) -> torch.Tensor:
        """Return zeroed uint8 [nbytes] of device memory, 256-byte aligned, or raise UserError."""

    def register(self, host: torch.Tensor) -> None:
        """Page-lock existing host memory so that copies from and to it are asynchronous."""

    def unregister(self, host: torch.Tensor) -> None:
        """Undo `register`; no copy of this memory may be in flight."""

    def compute(self) -> Stream:
        """Return the stream on which the model's kernels run."""

    def stream(self) -> Stream:
        """Return a new stream, for copies at the same time as the model's kernels."""


def open_device(name: str) -> Device:
    """Return the device called `name`: "cpu", "cuda" or "cuda:<index>"."""
    if name == "cpu":
        return CpuDevice()
    if name.split(":")[0] == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device {name}: torch sees no CUDA device; use cpu or fix the driver")
        return CudaDevice(name)
    raise UserError(f"device {name}: expected cpu, cuda or cuda:<index>")


class _Done:
    def done(self) -> bool:
        return True

    def synchronize(self) -> None:
        return None


def _memcpy(dst: torch.Tensor, src: torch.Tensor) -> None:
    if dst.shape != src.shape or dst.dtype != src.dtype:
        raise ValueError(f"copy of {src.dtype}{list(src.shape)} to {dst.dtype}{list(dst.shape)}")
    if dst.is_contiguous() and src.is_contiguous():
        # The C library's copy bypasses the caches; torch's is up to twice as slow on large ranges.
        ctypes.memmove(dst.data_ptr(), src.data_ptr(), dst.nbytes)
    else:
        dst.copy_(src)


class _CpuStream:
    """Copies at once, in the caller's thread."""

    def copy(self, dst: torch.Tensor, src: torch.Tensor) -> None:
        _memcpy(dst, src)

    def launch(self, work: Callable[[], object]) -> None:
        work()

    def record(self) -> StreamEvent:
        return _Done()

    def wait(self, event: StreamEvent) -> None:
        event.synchronize()


class _ThreadEvent:
    def __init__(self, future: Future[None]) -> None:
        self._future = future

    def done(self) -> bool:
        return self._future.done()

    def synchronize(self) -> None:
        self._future.result()


class _ThreadStream:
    """Copies in order in one thread of its own; the interpreter lock is released meanwhile."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="copy-stream")
        self._failed: BaseException | None = None

    def _run(self, work: Callable[[], object]) -> None:
        # After a failure the queue stays failed, so that no later event claims its bytes arrived.
        if self._failed is not None:
            raise self._failed
        try:
            work()
        except BaseException as error:
            self._failed = error
            raise

    def copy(self, dst: torch.Tensor, src: torch.Tensor) -> None:
        self.launch(lambda: _memcpy(dst, src))

    def launch(self, work: Callable[[], object]) -> None:
        self._worker.submit(self._run, work)

    def record(self) -> StreamEvent:
        return _ThreadEvent(self._worker.submit(self._run, lambda: None))

    def wait(self, event: StreamEvent) -> None:
        self._worker.submit(self._run, event.synchronize)


class CpuDevice:
    """Host memory as the device: copies are synchronous, or run in threads if `background`."""

    name = "cpu"
    fixed_addresses = False

    def __init__(self, background: bool = False) -> None:
        self._background = background

    def reserve(self, nbytes: int) -> torch.Tensor:
        """Return a page-aligned private mapping; pages are committed when first written."""
        try:
            pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, ValueError, OverflowError) as error:
            raise UserError(f"cannot reserve {nbytes:,} bytes on the CPU: {error}") from error
        if hasattr(mmap, "MADV_HUGEPAGE"):
            pages.madvise(mmap.MADV_HUGEPAGE)
        return torch.frombuffer(pages, dtype=torch.uint8)

    def register(self, host: torch.Tensor) -> None:
        """Do nothing: a CPU copy needs no page-locked memory."""

    def unregister(self, host: torch.Tensor) -> None:
        """Do nothing."""

    def compute(self) -> Stream:
        """Return the synchronous stream."""
        return _CpuStream()

    def stream(self) -> Stream:
        """Return a stream with a thread of its own if `background`, else the synchronous one."""
        return _ThreadStream() if self._background else _CpuStream()


class _CudaEvent:
    def __init__(self, event: torch.cuda.StreamEvent) -> None:
        self.raw = event

    def done(self) -> bool:
        return bool(self.raw.query())

    def synchronize(self) -> None:
        self.raw.synchronize()


class _CudaStream:
    def __init__(self, raw: torch.cuda.Stream) -> None:
        self.raw = raw

    def copy(self, dst: torch.Tensor, src: torch.Tensor) -> None:
        with torch.cuda.stream(self.raw):
            dst.copy_(src, non_blocking=True)

    def launch(self, work: Callable[[], object]) -> None:
        with torch.cuda.stream(self.raw):
            work()

    def record(self) -> StreamEvent:
        event = torch.cuda.StreamEvent()
        event.record(self.raw)
        return _CudaEvent(event)

    def wait(self, event: StreamEvent) -> None:
        if isinstance(event, _CudaEvent):
            self.raw.wait_event(event.raw)
        else:
            event.synchronize()


class CudaDevice:
    """One CUDA device; views stay at fixed addresses so that captured graphs stay valid."""

    fixed_addresses = True

    def __init__(self, name: str = "cuda") -> None:
        self.name = name
        self._device = torch.device(name)

    def reserve(self, nbytes: int) -> torch.Tensor:
        """Return device memory from torch's allocator, or raise UserError naming what is free."""
        try:
            memory = torch.zeros(nbytes, dtype=torch.uint8, device=self._device)
        except torch.OutOfMemoryError as error:
            free = int(torch.cuda.mem_get_info(self._device)[0])
            raise UserError(
                f"cannot reserve {nbytes:,} bytes on {self.name}: {free:,} bytes are free; "
                "make the arenas smaller or stop what else uses the device"
            ) from error
        # Without this, a copy on another stream could run before the zeros are written.
        torch.cuda.synchronize(self._device)
        return memory

    def register(self, host: torch.Tensor) -> None:
        """Page-lock `host` for every CUDA context of this process (cudaHostRegisterPortable)."""
        portable = 1
        status = int(torch.cuda.cudart().cudaHostRegister(host.data_ptr(), host.nbytes, portable))
        if status:
            raise UserError(
                f"cannot page-lock {host.nbytes:,} bytes of host memory (CUDA error {status}); "
                "raise the locked-memory limit (ulimit -l) or lower the cache's budget"
            )

    def unregister(self, host: torch.Tensor) -> None:
        """Unlock `host`; CUDA waits for copies of it that are in flight."""
        status = int(torch.cuda.cudart().cudaHostUnregister(host.data_ptr()))
        if status:
            raise RuntimeError(f"cudaHostUnregister failed with CUDA error {status}")

    def compute(self) -> Stream:
        """Return the stream that is torch's current one now."""
        return _CudaStream(torch.cuda.current_stream(self._device))

    def stream(self) -> Stream:
        """Return a new CUDA stream."""
        return _CudaStream(torch.cuda.Stream(device=self._device))
