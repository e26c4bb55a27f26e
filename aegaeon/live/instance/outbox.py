"""Events of an instance on their way out, in batches: one message per batch, not per token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aegaeon.live.events import Event


class Outbox:
    """Collects events for `sink`; batches are at most `flush_s` seconds of `clock` apart."""

    def __init__(
        self,
        sink: Callable[[Sequence[Event]], None],
        clock: Callable[[], float],
        flush_s: float,
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._flush_s = flush_s
        self._events: list[Event] = []
        self._flushed = 0.0

    def add(self, event: Event) -> None:
        """Add an event to the current batch."""
        self._events.append(event)

    def hurry(self) -> None:
        """Make the current batch due: another instance waits for one of its events."""
        self._flushed = float("-inf")

    def flush_if_due(self, now: float) -> None:
        """Send the batch if the last one was sent `flush_s` seconds before `now` or earlier."""
        if now - self._flushed >= self._flush_s:
            self.flush()

    def flush(self) -> None:
        """Send the batch, if it has events."""
        if self._events:
            events, self._events = self._events, []
            self._sink(events)
        self._flushed = self._clock()
