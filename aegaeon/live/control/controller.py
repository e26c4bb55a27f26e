"""The controller of a live run: replays arrivals, places requests, collects what became of them.

It does what the simulator does, with the same policy objects, but time passes by itself: requests
go out at their absolute arrival times whatever the system's state (open loop). Needs no Ray.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from aegaeon.core import Fleet, Stage
from aegaeon.live.control.recovery import FaultOptions, Recovery, resume
from aegaeon.live.control.tracks import GONE, HELD, LiveError, LiveRun, LiveTrack
from aegaeon.live.events import (
    Accepted,
    Carried,
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


class Port(Protocol):
    """The controller's end of one instance; `node` names whose host pool it shares.

    `epoch` counts how often the instance was made again.
    """

    node: str
    epoch: int

    def accept(self, request: LiveRequest) -> None:
        """Send a request; must not wait for the instance."""
        ...

    def discard(self, kv: HostKv, request: int) -> None:
        """Free KV of a request in the host pool of this instance's node."""
        ...

    def carry(self, kv: HostKv, request: int, ticket: int, there: int) -> None:
        """Begin to move KV to the node of instance `there`; a `Carried` message tells."""
        ...

    def restart(self, requests: Collection[int], again: bool) -> None:
        """Bury the dead instance, free the KV of itself and of `requests` that were sent to it.

        A message tells when that is done. With `again` it is made anew, which another message
        tells. Must not wait for any of that.
        """
        ...

    def stop(self) -> None:
        """Let the instance finish what it does and end its messages."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """Events of one instance, or its end, which is premature if there is an `error`.

    A message of an earlier `epoch` of the instance is late. `buried` says that a dead instance and
    what it was sent hold no memory any more, `ready` that the instance, made again, takes requests;
    `fatal` that the run cannot go on, whatever the instance.
    """

    instance: int
    events: Sequence[Event] = ()
    ended: bool = False
    error: str | None = None
    epoch: int = 0
    buried: bool = False
    ready: bool = False
    fatal: bool = False
    carried: Carried | None = None


class Controller:
    """Runs `requests` over `ports` (by instance id), which answer through `inbox`.

    `clock` gives seconds since the run began, on which all events are timed too. When nothing
    happens for `stall_s` seconds while requests are open, the run is broken; so it is when an
    instance dies, unless `faults` has it made again.
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
        faults: FaultOptions | None = None,
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
        self._recovery = Recovery(self._stages, faults or FaultOptions("fail"))
        self._tickets = 0
        self._abroad = 0
        self._journeys: dict[int, int] = {}
        self._unburied: dict[int, list[LiveTrack]] = {}
        self._carries: list[tuple[int, Carried]] = []
        self._switches: list[tuple[int, Switched]] = []
        self._moves: list[tuple[int, Moved]] = []
        self._work: list[tuple[int, Ran]] = []

    def run(self) -> LiveRun:
        """Play every arrival and wait for every request; raise LiveError if anything got lost."""
        while self._open:
            self._send_due()
            self._receive()
        for instance in self._running:
            self._ports[instance].stop()
        # What a turn took is told when it ends, which may be after its last token.
        while self._running or self._abroad:
            self._receive()
        return LiveRun(
            [self.tracks[ident] for ident in sorted(self.tracks)],
            self._fleet,
            self._switches,
            self._moves,
            self._work,
            carries=self._carries,
            faults=self._recovery.faults,
        )

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
        if message.fatal:
            raise LiveError(f"{message.error}; {self._open} requests were open")
        if message.carried is not None:
            self._arrived(message.instance, message.carried)
        if message.epoch != self._ports[message.instance].epoch:
            return
        if message.error is not None:
            self._lost(message.instance, message.error)
        if message.buried:
            self._buried(message.instance)
        if message.ready:
            self._back(message.instance)
        for event in message.events:
            self._take(message.instance, event)
        if message.ended:
            self._running.discard(message.instance)
            if self._open:
                raise LiveError(f"instance {message.instance} ended, {self._open} requests open")

    def _check_alive(self) -> None:
        arrived = self._open - (len(self._arrivals) - self._next)
        waiting = arrived or not self._open
        if self._recovery.waiting or self._unburied:
            # That has a time limit of its own, and tells when it is over.
            self._heard = self._clock()
        if waiting and self._clock() - self._heard >= self._stall_s:
            lost = [i for i, track in self.tracks.items() if track.place != GONE][:5]
            raise LiveError(
                f"nothing happened for {self._stall_s:g} s; {arrived} requests are open, "
                f"first {lost}, instances {sorted(self._running)} run"
            )

    def _take(self, instance: int, event: Event) -> None:
        match event:
            case Accepted():
                self.tracks[event.request].arrive(instance, event.time)
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
            case Ran():
                self._work.append((instance, event))
                for ident in event.requests:
                    self.tracks[ident].ran(instance, event)

    def _prefilled(self, instance: int, event: Prefilled) -> None:
        track, now = self.tracks[event.request.spec.id], self._clock()
        track.move(instance, HELD)
        track.depart(event.time)
        track.live = event.request
        self._homes[track.request.id] = instance
        placements = self._dispatcher.finished(track.request, Stage.PREFILL, instance, now)
        self._carry_out(placements, now)
        self._offer(track, Stage.DECODE, now)

    def _finished(self, track: LiveTrack, instance: int, event: Finished) -> None:
        due = track.live.due
        if due is not None and len(track.tokens) != due:
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
        if answer is None:
            track.queue(now)
        else:
            self._assign(track, answer)

    def _carry_out(self, placements: Sequence[Placement], now: float) -> None:
        for placement in placements:
            self.tracks[placement.request.id].unqueue(now)
            self._assign(self.tracks[placement.request.id], placement.instance)

    def _assign(self, track: LiveTrack, answer: int | Refusal) -> None:
        kv, ident = track.live.kv, track.request.id
        if isinstance(answer, Refusal):
            if kv is not None:
                self._ports[self._homes[ident]].discard(kv, ident)
            self._give_up(track, answer.reason)
            return
        track.move(HELD, answer)
        if kv is not None and self._ports[self._homes[ident]].node != self._ports[answer].node:
            self._tickets += 1
            self._abroad += 1
            self._journeys[ident] = self._tickets
            self._ports[self._homes[ident]].carry(kv, ident, self._tickets, answer)
        else:
            self._send(track)

    def _give_up(self, track: LiveTrack, reason: str) -> None:
        track.move(HELD, GONE)
        track.failure = reason
        self._open -= 1

    def _send(self, track: LiveTrack) -> None:
        if not self._recovery.keep(track.place, track.live):
            self._ports[track.place].accept(track.live)

    def _arrived(self, instance: int, event: Carried) -> None:
        """Send a request whose KV has come to the instance's node, unless that died meanwhile."""
        self._abroad -= 1
        self._carries.append((instance, event))
        track = self.tracks[event.request]
        if self._journeys.get(event.request) == event.ticket:
            del self._journeys[event.request]
            track.carried.append((event.time - event.seconds, event.time))
            track.live = replace(track.live, kv=event.kv)
            self._send(track)
        elif event.kv is not None:
            self._ports[instance].discard(event.kv, event.request)

    def _lost(self, instance: int, reason: str) -> None:
        """Bury a dead instance; its requests go on when that is done.

        Earlier, the KV of their next prefill could not be told from what is freed.
        """
        self._running.discard(instance)
        port, now = self._ports[instance], self._clock()
        if not self._open:
            port.restart((), again=False)
            return
        lost = [track for track in self.tracks.values() if track.place == instance]
        waiting = self._unburied.setdefault(instance, [])
        owners = [t.request.id for t in [*waiting, *lost] if t.request.id not in self._journeys]
        waiting += lost
        told = f"{reason}; {self._open} requests were open"
        again = self._recovery.lost(instance, told, len(lost), now)
        port.restart(owners, again)
        self._carry_out(self._dispatcher.available(instance, False, now), now)
        for track in lost:
            self._journeys.pop(track.request.id, None)
            track.move(instance, HELD)
            track.depart(now)
            stage = self._stages[instance]
            self._carry_out(self._dispatcher.finished(track.request, stage, instance, now), now)

    def _buried(self, instance: int) -> None:
        now = self._clock()
        for track in self._unburied.pop(instance, ()):
            self._go_on(track, now)

    def _go_on(self, track: LiveTrack, now: float) -> None:
        failure = resume(track)
        if failure is not None:
            self._give_up(track, failure)
        elif len(track.tokens) == track.live.due:
            track.finish = track.times[-1]
            track.move(HELD, GONE)
            self._open -= 1
        else:
            self._offer(track, self._first_stage, now)

    def _back(self, instance: int) -> None:
        if not self._open:
            return
        now = self._clock()
        self._running.add(instance)
        for request in self._recovery.back(instance, now):
            self._ports[instance].accept(request)
        self._carry_out(self._dispatcher.available(instance, True, now), now)
