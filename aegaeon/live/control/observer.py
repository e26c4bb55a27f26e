"""From events of instances to tracks of requests and steps of the lifecycle."""

from __future__ import annotations

from collections.abc import Callable

from aegaeon.live.control.tracks import LiveError, LiveTrack
from aegaeon.live.events import (
    Accepted,
    Event,
    Failed,
    Finished,
    Moved,
    Prefilled,
    Ran,
    Switched,
    Tokens,
)
from aegaeon.policy.lifecycle import Lifecycle


class Observer:
    """Keeps every request's track and every instance's switches, KV moves and work items."""

    def __init__(self, life: Lifecycle[LiveTrack], clock: Callable[[], float]) -> None:
        self.tracks: dict[int, LiveTrack] = {}
        self.switches: list[tuple[int, Switched]] = []
        self.moves: list[tuple[int, Moved]] = []
        self.work: list[tuple[int, Ran]] = []
        self._life = life
        self._clock = clock

    def take(self, instance: int, event: Event) -> None:
        """Note one event; raise LiveError if a request finished with a wrong number of tokens."""
        match event:
            case Accepted():
                self.tracks[event.request].arrive(instance, event.time)
            case Tokens():
                self.tracks[event.request].gain(event)
            case Prefilled():
                self._prefilled(instance, event)
            case Finished():
                self._finished(instance, event)
            case Failed():
                track = self.tracks[event.request]
                self._life.leave(track, instance, self._clock())
                track.failure = event.reason
            case Switched():
                self.switches.append((instance, event))
            case Moved():
                self.moves.append((instance, event))
            case Ran():
                self.work.append((instance, event))
                for ident in event.requests:
                    self.tracks[ident].ran(instance, event)

    def _prefilled(self, instance: int, event: Prefilled) -> None:
        track = self.tracks[event.request.spec.id]
        track.depart(event.time)
        track.live, track.home = event.request, instance
        self._life.prefilled(track, instance, self._clock())

    def _finished(self, instance: int, event: Finished) -> None:
        track = self.tracks[event.request]
        due = track.live.due
        if due is not None and len(track.tokens) != due:
            raise LiveError(
                f"request {track.request.id}: {len(track.tokens)} tokens made, {due} asked for "
                f"({event.reason})"
            )
        track.finish = event.time
        self._life.leave(track, instance, self._clock())
