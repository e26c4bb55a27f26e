"""The controller of a live run: offers requests when due, and collects events of instances.

The controller drives the same lifecycle as the simulator, in real time. The module needs
no Ray.
"""

from __future__ import annotations

import math
import queue
from collections.abc import Callable
from dataclasses import replace

from aegaeon.core import Fleet
from aegaeon.live.control.messages import (
    Broken,
    Died,
    Ended,
    Message,
    Reaped,
    Reported,
    Restarted,
    Submitted,
    Transferred,
)
from aegaeon.live.control.observer import Observer
from aegaeon.live.control.recovery import FaultOptions, Recovery, resume
from aegaeon.live.control.source import Source
from aegaeon.live.control.tracks import LiveError, LiveRun, LiveTrack
from aegaeon.live.control.transfers import Transfers
from aegaeon.live.control.transport import Transport
from aegaeon.policy.interface import Dispatcher
from aegaeon.policy.lifecycle import Lifecycle


class Controller:
    """Runs the requests of `source` on `fleet`.

    `transport` sends to instances, and messages from instances arrive in `inbox`. `clock` returns
    seconds since the run began; all events are timed on this clock. `progress` gets the number of
    requests sent. A run is broken, and `run` raises LiveError, if `stall_s` seconds pass without a
    message while requests are open, or if an instance dies and `faults` allows no recovery.

    One class, because every message may change what is open, running or being restarted, and that
    state has one owner. Lifecycle, tracks, transfers and recovery are objects of their own.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        fleet: Fleet,
        source: Source,
        transport: Transport,
        inbox: queue.Queue[Message],
        clock: Callable[[], float],
        *,
        stall_s: float = 60.0,
        progress: Callable[[int], None] | None = None,
        faults: FaultOptions | None = None,
    ) -> None:
        self._fleet = fleet
        self._source = source
        self._transport = transport
        self._inbox = inbox
        self._clock = clock
        self._stall_s = stall_s
        self._progress = progress
        self._life: Lifecycle[LiveTrack] = Lifecycle(dispatcher, fleet, self)
        self._observer = Observer(self._life, clock)
        self._transfers = Transfers(transport)
        self._recovery = Recovery(
            {spec.id: spec.stage for spec in fleet}, faults or FaultOptions("fail")
        )
        self._running = {spec.id for spec in fleet}
        self._heard = 0.0

    def run(self) -> LiveRun:
        """Serve every request; raise LiveError or ConservationError if one, or a token, is lost."""
        while self._unfinished:
            self._offer_due()
            self._receive()
        for instance in self._running:
            self._transport.stop(instance)
        # An instance reports a work item at its end, which may be after the last token.
        while self._running or self._transfers.open:
            self._receive()
        seen = self._observer
        return LiveRun(
            [seen.tracks[ident] for ident in sorted(seen.tracks)],
            self._fleet,
            seen.switches,
            seen.moves,
            seen.work,
            transfers=self._transfers.landed,
            faults=self._recovery.faults,
        )

    def send(self, track: LiveTrack, instance: int, now: float) -> None:
        """Send a placed request; KV on another node is transferred first."""
        track.unqueue(now)
        kv = track.live.kv
        if kv is None or self._transport.node(track.home) == self._transport.node(instance):
            self._deliver(track)
        else:
            self._transfers.begin(kv, track.request.id, track.home, instance)

    def hold(self, track: LiveTrack, now: float) -> None:
        """Note that the dispatcher holds a request."""
        track.queue(now)

    def refuse(self, track: LiveTrack, reason: str, now: float) -> None:
        """Let a refused request fail, and free its KV."""
        track.unqueue(now)
        track.failure = reason
        if track.live.kv is not None:
            self._transport.discard(track.home, track.live.kv, track.request.id)

    @property
    def _unfinished(self) -> bool:
        return bool(self._life.tracks) or self._source.next_at() is not None

    def _offer_due(self) -> None:
        now = self._clock()
        for request in self._source.due(now):
            track = LiveTrack(request)
            self._heard = track.sent = now
            self._observer.tracks[request.spec.id] = track
            self._life.arrive(track, now)
            if self._progress is not None:
                self._progress(len(self._observer.tracks))

    def _receive(self) -> None:
        wait, next_at = self._stall_s, self._source.next_at()
        if next_at is not None and next_at < math.inf:
            wait = min(wait, max(0.0, next_at - self._clock()))
        try:
            message = self._inbox.get(timeout=wait)
        except queue.Empty:
            self._check_stall()
            return
        self._heard = self._clock()
        self._handle(message)

    def _handle(self, message: Message) -> None:
        match message:
            case Broken():
                raise LiveError(f"{message.reason}; {len(self._life.tracks)} requests were open")
            case Transferred():
                self._landed(message)
            case Submitted():
                pass
            case _ if message.epoch != self._transport.epoch(message.instance):
                pass
            case Reported():
                for event in message.events:
                    self._observer.take(message.instance, event)
            case Died():
                self._died(message.instance, message.reason)
            case Reaped():
                self._reaped(message.instance)
            case Restarted():
                self._restarted(message.instance)
            case Ended():
                self._ended(message.instance)

    def _check_stall(self) -> None:
        waiting = self._life.tracks or not self._unfinished
        if self._recovery.waiting:
            # A restart has a time limit of its own, and its end is a message.
            self._heard = self._clock()
        if waiting and self._clock() - self._heard >= self._stall_s:
            raise LiveError(
                f"nothing happened for {self._stall_s:g} s; {len(self._life.tracks)} requests are "
                f"open, first {sorted(self._life.tracks)[:5]}, instances {sorted(self._running)} "
                "run"
            )

    def _deliver(self, track: LiveTrack) -> None:
        if not self._recovery.keep(track.place, track.live):
            self._transport.accept(track.place, track.live)

    def _landed(self, done: Transferred) -> None:
        if self._transfers.land(done):
            track = self._life.tracks[done.request]
            track.carried.append((done.time - done.seconds, done.time))
            track.live = replace(track.live, kv=done.kv)
            self._deliver(track)

    def _ended(self, instance: int) -> None:
        self._running.discard(instance)
        if self._unfinished:
            raise LiveError(f"instance {instance} ended, {len(self._life.tracks)} requests open")

    def _died(self, instance: int, reason: str) -> None:
        """Reap a dead instance; the instance's requests go on after the `Reaped` message.

        A request sent on earlier could have new KV in flight under the same mark, and the cleanup
        would free that KV too.
        """
        self._running.discard(instance)
        if not self._unfinished:
            self._transport.restart(instance, (), again=False)
            return
        now = self._clock()
        lost = [track for track in self._life.tracks.values() if track.place == instance]
        told = f"{reason}; {len(self._life.tracks)} requests were open"
        again = self._recovery.lost(instance, told, lost, now)
        unreaped = [track.request.id for track in self._recovery.unreaped(instance)]
        sent = [ident for ident in unreaped if not self._transfers.in_flight(ident)]
        self._transport.restart(instance, sent, again)
        for track in lost:
            self._transfers.call_off(track.request.id)
            track.depart(now)
        self._life.lose(lost, instance, now)

    def _reaped(self, instance: int) -> None:
        now = self._clock()
        for track in self._recovery.reaped(instance):
            failure = resume(track)
            if failure is None and not track.complete:
                self._life.resume(track, now)
                continue
            track.failure = failure
            if failure is None:
                track.finish = track.times[-1]
            self._life.give_up(track)

    def _restarted(self, instance: int) -> None:
        if not self._unfinished:
            return
        now = self._clock()
        self._running.add(instance)
        for request in self._recovery.back(instance, now):
            self._transport.accept(instance, request)
        self._life.available(instance, True, now)
