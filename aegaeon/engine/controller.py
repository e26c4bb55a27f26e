"""The controller of a live run: replays arrivals, places requests, collects what became of them.

It does what the simulator does, with the same policy objects, but time passes by itself: requests
go out at their absolute arrival times whatever the system's state (open loop). Needs no Ray.
"""

from __future__ import annotations

import math
import queue
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from aegaeon.core import CostModel, Fleet, Request, Stage
from aegaeon.engine.events import (
    Event,
    Failed,
    Finished,
    HostKv,
    LiveRequest,
    Moved,
    Prefilled,
    Ran,
    Switched,
    Tokens,
)
from aegaeon.policy.interface import Dispatcher, Placement, Refusal

HELD = -1
GONE = -2


class LiveError(RuntimeError):
    """A live run that broke: an instance died, or requests or tokens got lost."""


class Port(Protocol):
    """The controller's end of one instance; `node` names whose host pool it shares."""

    node: str

    def accept(self, request: LiveRequest) -> None:
        """Send a request; must not wait for the instance."""
        ...

    def discard(self, kv: HostKv) -> None:
        """Free KV in the host pool of this instance's node."""
        ...

    def stop(self) -> None:
        """Let the instance finish what it does and end its messages."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """Events of one instance, or its end, which is premature if there is an `error`."""

    instance: int
    events: Sequence[Event] = ()
    ended: bool = False
    error: str | None = None


@dataclass(slots=True)
class LiveTrack:
    """One request's progress; times are seconds on the run's clock, NaN before they are known.

    `place` is an instance's id, HELD, or GONE (finished or failed). `sent` is when the request went
    out, `times` has each token's. `failure` is why it failed.
    """

    live: LiveRequest
    place: int = HELD
    sent: float = math.nan
    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    prefill_start: float = math.nan
    prefill_s: float = 0.0
    decode_s: float = 0.0
    kv_wait_s: float = 0.0
    finish: float = math.nan
    failure: str | None = None

    @property
    def request(self) -> Request:
        """What the policies know of it."""
        return self.live.spec

    def move(self, origin: int, destination: int) -> None:
        """Change place, once and only from where the request is."""
        if self.place != origin:
            raise LiveError(f"request {self.request.id} is at {self.place}, not at {origin}")
        self.place = destination


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A finished run: tracks in order of id; switches, KV moves and work with their instance.

    `costs` is what the policies were told, measured or estimated.
    """

    tracks: Sequence[LiveTrack]
    fleet: Fleet
    switches: Sequence[tuple[int, Switched]]
    moves: Sequence[tuple[int, Moved]]
    work: Sequence[tuple[int, Ran]]
    costs: CostModel = field(default_factory=dict)


class Controller:
    """Runs `requests` over `ports` (by instance id), which answer through `inbox`.

    `clock` gives seconds since the run began, on which all events are timed too. When nothing
    happens for `stall_s` seconds while requests are open, the run is broken.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        fleet: Fleet,
        requests: Sequence[LiveRequest],
        ports: Mapping[int, Port],
        inbox: queue.Queue[Message],
        clock: Callable[[], float],
        stall_s: float = 60.0,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.tracks = {r.spec.id: LiveTrack(r) for r in requests}
        self._arrivals = sorted(requests, key=lambda r: (r.spec.arrival, r.spec.id))
        self._dispatcher = dispatcher
        self._fleet = fleet
        self._stages = {spec.id: spec.stage for spec in fleet}
        split = Stage.PREFILL in self._stages.values()
        self._first_stage = Stage.PREFILL if split else Stage.FULL
        self._ports = ports
        self._inbox = inbox
        self._clock = clock
        self._stall_s = stall_s
        self._progress = progress
        self._next = 0
        self._open = len(requests)
        self._heard = 0.0
        self._running = set(ports)
        self._homes: dict[int, int] = {}
        self._waits: dict[int, list[Moved]] = {i: [] for i in ports}
        self._switches: list[tuple[int, Switched]] = []
        self._moves: list[tuple[int, Moved]] = []
        self._work: list[tuple[int, Ran]] = []

    def run(self) -> LiveRun:
        """Play every arrival and wait for every request; raise LiveError if anything got lost."""
        while self._open:
            self._send_due()
            self._receive()
        for port in self._ports.values():
            port.stop()
        # What a turn took is told when it ends, which may be after its last token.
        while self._running:
            self._receive()
        tracks = [self.tracks[ident] for ident in sorted(self.tracks)]
        return LiveRun(tracks, self._fleet, self._switches, self._moves, self._work)

    def _send_due(self) -> None:
        now = self._clock()
        while self._next < len(self._arrivals) and self._arrivals[self._next].spec.arrival <= now:
            track = self.tracks[self._arrivals[self._next].spec.id]
            self._next += 1
            self._heard = track.sent = now
            self._offer(track, self._first_stage, now)
            if self._progress is not None:
                self._progress(self._next)

    def _receive(self) -> None:
        wait = self._stall_s
        if self._next < len(self._arrivals):
            wait = min(wait, max(0.0, self._arrivals[self._next].spec.arrival - self._clock()))
        try:
            message = self._inbox.get(timeout=wait)
        except queue.Empty:
            self._check_alive()
            return
        self._heard = self._clock()
        if message.error is not None:
            raise LiveError(f"{message.error}; {self._open} requests were open")
        for event in message.events:
            self._take(message.instance, event)
        if message.ended:
            self._running.discard(message.instance)
            if self._open:
                raise LiveError(f"instance {message.instance} ended, {self._open} requests open")

    def _check_alive(self) -> None:
        arrived = self._open - (len(self._arrivals) - self._next)
        waiting = arrived or not self._open
        if waiting and self._clock() - self._heard >= self._stall_s:
            lost = [i for i, track in self.tracks.items() if track.place != GONE][:5]
            raise LiveError(
                f"nothing happened for {self._stall_s:g} s; {arrived} requests are open, "
                f"first {lost}, instances {sorted(self._running)} run"
            )

    def _take(self, instance: int, event: Event) -> None:
        match event:
            case Tokens():
                track = self.tracks[event.request]
                track.tokens += event.output.token_ids
                track.times += [event.time] * len(event.output.token_ids)
            case Prefilled():
                self._prefilled(instance, event)
            case Finished():
                self._finished(self.tracks[event.request], instance, event)
            case Failed():
                self._fail(self.tracks[event.request], instance, event.reason)
            case Switched():
                self._switches.append((instance, event))
            case Moved():
                self._moves.append((instance, event))
                self._waits[instance].append(event)
            case Ran():
                self._ran(instance, event)

    def _prefilled(self, instance: int, event: Prefilled) -> None:
        track, now = self.tracks[event.request.spec.id], self._clock()
        track.move(instance, HELD)
        track.live = event.request
        self._homes[track.request.id] = instance
        placements = self._dispatcher.finished(track.request, Stage.PREFILL, instance, now)
        self._carry_out(placements, now)
        self._offer(track, Stage.DECODE, now)

    def _finished(self, track: LiveTrack, instance: int, event: Finished) -> None:
        due = track.request.output_tokens
        if len(track.tokens) != due:
            raise LiveError(
                f"request {track.request.id}: {len(track.tokens)} tokens made, {due} asked for "
                f"({event.reason})"
            )
        track.finish = event.time
        self._leave(track, instance)

    def _fail(self, track: LiveTrack, instance: int, reason: str) -> None:
        track.failure = reason
        self._leave(track, instance)

    def _leave(self, track: LiveTrack, instance: int) -> None:
        track.move(instance, GONE)
        self._open -= 1
        stage, now = self._stages[instance], self._clock()
        self._carry_out(self._dispatcher.finished(track.request, stage, instance, now), now)

    def _offer(self, track: LiveTrack, stage: Stage, now: float) -> None:
        answer = self._dispatcher.place(track.request, stage, now)
        if answer is not None:
            self._assign(track, answer)

    def _carry_out(self, placements: Sequence[Placement], now: float) -> None:
        for placement in placements:
            self._assign(self.tracks[placement.request.id], placement.instance)

    def _assign(self, track: LiveTrack, answer: int | Refusal) -> None:
        node = None if isinstance(answer, Refusal) else self._ports[answer].node
        kv = track.live.kv
        if kv is not None:
            home = self._ports[self._homes[track.request.id]]
            if node != home.node:
                # The host pool is one node's; elsewhere the prompt is computed again.
                home.discard(kv)
                track.live = replace(track.live, kv=None)
        if isinstance(answer, Refusal):
            track.move(HELD, GONE)
            track.failure = answer.reason
            self._open -= 1
        else:
            track.move(HELD, answer)
            self._ports[answer].accept(track.live)

    def _ran(self, instance: int, event: Ran) -> None:
        self._work.append((instance, event))
        moves, self._waits[instance] = self._waits[instance], []
        # The wait before the first step lies before `start`, later ones between start and end.
        inside = sum([m.seconds for m in moves if m.time - m.seconds >= event.start])
        seconds = event.end - event.start
        for ident in event.requests:
            track = self.tracks[ident]
            if event.kind == "prefill":
                track.prefill_s += seconds
                if math.isnan(track.prefill_start):
                    track.prefill_start = event.start
            else:
                track.decode_s += seconds - inside
                track.kv_wait_s += sum([m.seconds for m in moves])
