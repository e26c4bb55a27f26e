"""The life of a request, driven by both backends: offered, held, placed, handed over, gone.

The lifecycle asks the dispatcher and tells the backend's `Delivery` what to do. A request is at one
place at any time: at an instance, held, or gone. No step waits and none reads a clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Generic, Protocol, TypeVar

from aegaeon.core import Fleet, Request, Stage
from aegaeon.policy.interface import Dispatcher, Placement, Refusal

HELD = -1
GONE = -2


class ConservationError(AssertionError):
    """A backend lost or doubled a request, a token or a byte: a bug, never a user's fault."""


class Tracked(Protocol):
    """A backend's record of one request; `place` is an instance's id, HELD or GONE."""

    place: int

    @property
    def request(self) -> Request:
        """What policies know of the request."""
        ...


T = TypeVar("T", bound=Tracked)
T_contra = TypeVar("T_contra", bound=Tracked, contravariant=True)


class Delivery(Protocol[T_contra]):
    """What a backend does with the dispatcher's answers; no method may wait."""

    def send(self, track: T_contra, instance: int, now: float) -> None:
        """Bring a placed request to `instance`."""
        ...

    def hold(self, track: T_contra, now: float) -> None:
        """Note that the dispatcher keeps the request for later."""
        ...

    def refuse(self, track: T_contra, reason: str, now: float) -> None:
        """Note that the request will never be served, and free what it holds."""
        ...


class Lifecycle(Generic[T]):
    """Moves requests between the dispatcher and instances; `tracks` has those that are not gone."""

    def __init__(self, dispatcher: Dispatcher, fleet: Fleet, delivery: Delivery[T]) -> None:
        self.tracks: dict[int, T] = {}
        self._dispatcher = dispatcher
        self._delivery = delivery
        self._stages = {spec.id: spec.stage for spec in fleet}
        split = Stage.PREFILL in self._stages.values()
        self._first_stage = Stage.PREFILL if split else Stage.FULL

    def arrive(self, track: T, now: float) -> None:
        """Accept a new request and offer it to the dispatcher."""
        track.place = HELD
        self.tracks[track.request.id] = track
        self._offer(track, self._first_stage, now)

    def prefilled(self, track: T, instance: int, now: float) -> None:
        """Take a request whose first token is made from `instance`; offer it for decoding."""
        self._move(track, instance, HELD)
        self._note_departure(track, Stage.PREFILL, instance, now)
        self._offer(track, Stage.DECODE, now)

    def leave(self, track: T, instance: int, now: float) -> None:
        """Note that a request at `instance` has finished or failed."""
        self._move(track, instance, GONE)
        self._note_departure(track, self._stages[instance], instance, now)

    def lose(self, tracks: Collection[T], instance: int, now: float) -> None:
        """Note that `instance` died with `tracks`; each waits for `resume` or `give_up`."""
        self.available(instance, False, now)
        for track in tracks:
            self._move(track, instance, HELD)
            self._note_departure(track, self._stages[instance], instance, now)

    def resume(self, track: T, now: float) -> None:
        """Offer a request again whose instance died; the first stage computes its KV again."""
        self._offer(track, self._first_stage, now)

    def give_up(self, track: T) -> None:
        """Let a held request go: it is complete, or nothing can serve it any more."""
        self._move(track, HELD, GONE)

    def available(self, instance: int, up: bool, now: float) -> None:
        """Note that `instance` went down or came back."""
        self._place(self._dispatcher.available(instance, up, now), now)

    def _offer(self, track: T, stage: Stage, now: float) -> None:
        answer = self._dispatcher.place(track.request, stage, now)
        if answer is None:
            self._delivery.hold(track, now)
        else:
            self._assign(track, answer, now)

    def _note_departure(self, track: T, stage: Stage, instance: int, now: float) -> None:
        self._place(self._dispatcher.finished(track.request, stage, instance, now), now)

    def _place(self, placements: Sequence[Placement], now: float) -> None:
        for placement in placements:
            track = self.tracks.get(placement.request.id)
            if track is None:
                raise ConservationError(f"request {placement.request.id} is placed and gone")
            self._assign(track, placement.instance, now)

    def _assign(self, track: T, answer: int | Refusal, now: float) -> None:
        if isinstance(answer, Refusal):
            self._move(track, HELD, GONE)
            self._delivery.refuse(track, answer.reason, now)
        else:
            self._move(track, HELD, answer)
            self._delivery.send(track, answer, now)

    def _move(self, track: T, origin: int, destination: int) -> None:
        """Change place, once and only from where the request is."""
        ident = track.request.id
        if track.place != origin:
            raise ConservationError(f"request {ident} is at {track.place}, not at {origin}")
        track.place = destination
        if destination == GONE:
            del self.tracks[ident]
