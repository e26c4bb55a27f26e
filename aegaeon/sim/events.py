"""The simulator's clock: events in order of time, first scheduled first."""

from __future__ import annotations

import heapq
from typing import Protocol


class Sleeper(Protocol):
    """What an event wakes."""

    def wake(self, version: int, now: float) -> None:
        """Handle the event that was scheduled under `version`."""
        ...


class EventQueue:
    """Events to come; `scheduled` counts all that were ever scheduled."""

    def __init__(self) -> None:
        self.scheduled = 0
        self._heap: list[tuple[float, int, Sleeper, int]] = []

    def schedule(self, time: float, sleeper: Sleeper, version: int) -> None:
        """Wake `sleeper` at `time`; the sleeper recognises outdated versions itself."""
        self.scheduled += 1
        heapq.heappush(self._heap, (time, self.scheduled, sleeper, version))

    def run_until(self, time: float) -> None:
        """Handle every event before `time`, those included that such events schedule."""
        heap = self._heap
        while heap and heap[0][0] < time:
            now, _, sleeper, version = heapq.heappop(heap)
            sleeper.wake(version, now)
