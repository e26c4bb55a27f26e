"""A device for tests: a queued copy happens when the test advances the device.

Bytes move when an operation runs, not when the operation is queued. A source that was overwritten
too early, or a target that was reused too early, therefore shows as wrong bytes, as on a GPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch

from aegaeon.live.memory.device import Stream, StreamEvent


class FakeEvent:
    """An event that is done once its stream has run all earlier operations."""

    def __init__(self, device: FakeDevice) -> None:
        self._device = device
        self.completed = False

    def done(self) -> bool:
        """Return whether the stream has run up to this event."""
        return self.completed

    def synchronize(self) -> None:
        """Run all streams in turn until the event is done; RuntimeError for a deadlock."""
        while not self.completed:
            if not self._device.advance():
                raise RuntimeError("deadlock: no stream can advance and the event is not done")


class FakeStream:
    """A queue of operations; an operation that has to wait returns False."""

    def __init__(self, device: FakeDevice) -> None:
        self._device = device
        self._queue: deque[Callable[[], bool]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def advance(self) -> bool:
        """Run the oldest operation; return False without one, or if it waits for an event."""
        if not self._queue or not self._queue[0]():
            return False
        self._queue.popleft()
        return True

    def launch(self, work: Callable[[], object]) -> None:
        """Queue `work`, as a kernel launch would."""

        def run() -> bool:
            work()
            return True

        self._queue.append(run)

    def copy(self, dst: torch.Tensor, src: torch.Tensor) -> None:
        """Queue a copy; `src` is read when the copy runs. ValueError for unlike tensors."""
        if dst.shape != src.shape or dst.dtype != src.dtype:
            raise ValueError(f"copy of {src.shape} to {dst.shape}")
        self.launch(lambda: dst.copy_(src))

    def record(self) -> StreamEvent:
        """Queue the completion of a new event."""
        event = FakeEvent(self._device)

        def complete() -> None:
            event.completed = True

        self.launch(complete)
        return event

    def wait(self, event: StreamEvent) -> None:
        """Queue a barrier that opens when `event` is done."""
        self._queue.append(event.done)


class FakeDevice:
    """Host memory behind asynchronous streams that a test advances by hand."""

    def __init__(self, fixed_addresses: bool = True) -> None:
        self.name = "fake"
        self.fixed_addresses = fixed_addresses
        self.streams: list[FakeStream] = [FakeStream(self)]
        self.registered: set[int] = set()

    def reserve(self, nbytes: int) -> torch.Tensor:
        """Return zeroed host memory."""
        return torch.zeros(nbytes, dtype=torch.uint8)

    def register(self, host: torch.Tensor) -> None:
        """Note that `host` is page-locked; RuntimeError for a second call, as on CUDA."""
        if host.data_ptr() in self.registered:
            raise RuntimeError("host memory is registered already")
        self.registered.add(host.data_ptr())

    def unregister(self, host: torch.Tensor) -> None:
        """Note that `host` is no longer page-locked."""
        self.registered.remove(host.data_ptr())

    def compute(self) -> FakeStream:
        """Return the one compute stream."""
        return self.streams[0]

    def stream(self) -> Stream:
        """Return a new stream."""
        self.streams.append(FakeStream(self))
        return self.streams[-1]

    def advance(self) -> bool:
        """Let each stream run one operation; return False if no stream could."""
        ran = [stream.advance() for stream in self.streams]
        return any(ran)

    def run_all(self) -> None:
        """Run all streams until no stream can advance."""
        while self.advance():
            pass
