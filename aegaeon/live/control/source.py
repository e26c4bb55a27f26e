"""Sources of a live run's requests: a list known beforehand, or clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aegaeon.live.events import LiveRequest


class Source(Protocol):
    """Gives requests when due, independent of the system's state (open loop)."""

    def due(self, now: float) -> Sequence[LiveRequest]:
        """Return the requests that became due since the last call, in order of arrival."""
        ...

    def next_at(self) -> float | None:
        """Return the time at which the next request is due, in seconds on the run's clock.

        Infinity: the time is unknown, and a `Submitted` message announces the request. None: no
        request follows.
        """
        ...


class Replay:
    """Requests known beforehand, each due at its arrival time."""

    def __init__(self, requests: Sequence[LiveRequest]) -> None:
        self._requests = sorted(requests, key=lambda r: (r.spec.arrival, r.spec.id))
        self._next = 0

    def due(self, now: float) -> Sequence[LiveRequest]:
        """Return the requests whose arrival times have passed."""
        first = self._next
        while self._next < len(self._requests) and self._requests[self._next].spec.arrival <= now:
            self._next += 1
        return self._requests[first : self._next]

    def next_at(self) -> float | None:
        """Return the next arrival time; None after the last one."""
        if self._next == len(self._requests):
            return None
        return self._requests[self._next].spec.arrival
