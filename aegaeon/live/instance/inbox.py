"""What comes in to an instance, from any thread: requests, cancellations, and the order to stop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

from aegaeon.live.events import LiveRequest


class Inbox:
    """Requests and the ids of requests to cancel, by arrival; `clock` returns seconds.

    One thread takes the items out; any thread puts them in.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._items: deque[tuple[float, LiveRequest | int]] = deque()
        self._changed = threading.Condition()
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def put(self, item: LiveRequest | int) -> None:
        """Add a request, or the id of one to cancel."""
        with self._changed:
            self._items.append((self._clock(), item))
            self._changed.notify()

    def stop(self) -> None:
        """End the current wait and all later ones."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def take(self) -> Iterator[tuple[float, LiveRequest | int]]:
        """Take the items out, oldest first, each with the time of its arrival."""
        while self._items:
            yield self._items.popleft()

    def wait(self, until: float) -> None:
        """Wait for an item, for `stop`, or until the clock shows `until`, which may be infinite."""
        with self._changed:
            if not (self._items or self._stopped):
                seconds = until - self._clock()
                self._changed.wait(None if seconds == float("inf") else max(0.0, seconds))
