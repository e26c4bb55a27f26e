"""A simulated instance whose models are all resident and share its SMs and bandwidth (MuxServe)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aegaeon.core import CostModel, Decode, Fail, Idle, InstanceSpec, Outcome, Prefill, Work
from aegaeon.policy.interface import Scheduler
from aegaeon.sim.segment import span, steps_until
from aegaeon.sim.track import ConservationError, Track

if TYPE_CHECKING:
    from aegaeon.sim.simulator import Simulator

GRANT_TOKENS = 256
_SHARE_TOLERANCE = 1e-6


class KvGrants:
    """KV memory handed out `GRANT_TOKENS` at a time.

    Requests ask at the same tokens of their lives however long the segments between are, so a run
    does not depend on how decoding is cut into segments.
    """

    def __init__(self, capacity: float) -> None:
        self._capacity = int(capacity)
        self._free = self._capacity
        self._held: dict[int, int] = {}

    def ask(self, track: Track) -> bool:
        """See to it that the request's next token has room; False if not even one token has."""
        held = self._held.get(track.request.id, 0)
        missing = track.context + 1 - held
        if missing <= 0:
            return True
        size = track.cost.kv_bytes_per_token
        tokens = min(missing + GRANT_TOKENS - 1, self._free // size)
        if tokens < missing:
            return False
        self._free -= tokens * size
        self._held[track.request.id] = held + tokens
        return True

    def spare(self, track: Track) -> int:
        """Return how many tokens the request can gain before it must ask again."""
        return self._held[track.request.id] - track.context

    def release(self, track: Track) -> None:
        """Take back what the request holds, if anything."""
        self._free += self._held.pop(track.request.id, 0) * track.cost.kv_bytes_per_token

    def audit(self) -> None:
        """Check at the end that every byte is free again."""
        if self._held or self._free != self._capacity:
            raise ConservationError(f"KV grants: {len(self._held)} requests still hold some")


@dataclass(slots=True)
class _Running:
    """Work in progress: a prefill batch (steps = 1) or a decode segment, slow-down included."""

    work: Prefill | Decode
    active: list[Track]
    skipped: list[Track]
    start: float = 0.0
    step: float = 0.0
    slope: float = 0.0
    steps: int = 0

    @property
    def end(self) -> float:
        return self.start + span(self.step, self.slope, self.steps)


class SharedInstance:
    """One device whose resident models run at once, each piece of work on its share of the SMs.

    Whenever a prefill ends, a request finishes, KV runs out or the mix of running work changes,
    every decode stops at the end of its step, so that the scheduler may give it another batch or
    share; a step that has begun keeps its speed. A request whose KV finds no room loses it and is
    reported as skipped: its next prefill recomputes the prompt and the answer so far, as MuxServe's
    engine does.
    """

    def __init__(
        self, spec: InstanceSpec, scheduler: Scheduler, costs: CostModel, sim: Simulator
    ) -> None:
        if spec.sharing is None:
            raise ValueError(f"instance {spec.id}: resident models need InstanceSpec.sharing")
        self.spec = spec
        self.scheduler = scheduler
        self._sharing = spec.sharing
        self._costs = costs
        self._sim = sim
        self._kv = KvGrants(spec.kv_bytes)
        self._running: dict[int, _Running] = {}
        self._mix: list[tuple[bool, float]] = []
        self._version = 0
        self._alarm = 0

    def accept(self, track: Track, now: float) -> None:
        """Give the scheduler a request; start or cut work as it asks."""
        cut = self.scheduler.add(track.request, now)
        self._fill(now)
        if cut:
            self._cut(now)

    def wake(self, version: int, now: float) -> None:
        """Handle the event scheduled under `version`, unless a cut has replaced it."""
        running = self._running.pop(version, None)
        if running is not None:
            if self._complete(running, now):
                self._cut(now)
        elif version != self._alarm:
            return
        self._fill(now)

    def audit(self) -> None:
        """Check at the end that nothing runs and that no KV is left."""
        self._kv.audit()
        if self._running:
            raise ConservationError(f"instance {self.spec.id} ends with work running")

    def _fill(self, now: float) -> None:
        """Start work until the scheduler has no more, then fix the speed of what started."""
        started: list[_Running] = []
        shortage = False
        work: Work = self.scheduler.next_work(now)
        while not isinstance(work, Idle):
            if isinstance(work, Fail):
                self._fail(work, now)
            else:
                running = self._start(work, now)
                shortage = shortage or bool(running.skipped)
                if running.active:
                    started.append(running)
                else:
                    self.scheduler.record(work, Outcome(now, now, 0, skipped=work.requests), now)
            work = self.scheduler.next_work(now)
        if work.until < math.inf:
            self._alarm = self._schedule(work.until)
        mix = self._mix_of([*self._running.values(), *started])
        if mix != self._mix or shortage:
            self._mix = mix
            self._cut(now)
        shares = [share for decode, share in mix if decode]
        for running in started:
            self._pace(running, shares, now)
            if shortage:
                running.steps = 1
            self._running[self._schedule(running.end)] = running

    def _mix_of(self, running: list[_Running]) -> list[tuple[bool, float]]:
        mix = sorted([(isinstance(r.work, Decode), r.work.share) for r in running])
        if sum([share for _, share in mix]) > 1 + _SHARE_TOLERANCE:
            raise ConservationError(f"instance {self.spec.id}: SM shares exceed 1 in {mix}")
        return mix

    def _schedule(self, time: float) -> int:
        self._version += 1
        self._sim.schedule(time, self, self._version)
        return self._version

    def _cut(self, now: float) -> None:
        for version, running in list(self._running.items()):
            if isinstance(running.work, Decode):
                steps = steps_until(running.step, running.slope, now - running.start)
                if steps < running.steps:
                    running.steps = steps
                    del self._running[version]
                    self._running[self._schedule(running.end)] = running

    def _fail(self, work: Fail, now: float) -> None:
        for request in work.requests:
            track = self._sim.tracks[request.id]
            self._kv.release(track)
            self._sim.fail(track, self, now)

    def _start(self, work: Prefill | Decode, now: float) -> _Running:
        """Find room for as much of the batch as fits; nothing runs if nothing does."""
        tracks = [self._sim.tracks[request.id] for request in work.requests]
        find = self._admit if isinstance(work, Prefill) else self._grow
        active, skipped = find(tracks)
        return _Running(work, active, skipped, start=now)

    def _admit(self, tracks: list[Track]) -> tuple[list[Track], list[Track]]:
        active: list[Track] = []
        skipped: list[Track] = []
        for track in tracks:
            (active if not skipped and self._kv.ask(track) else skipped).append(track)
        return active, skipped

    def _grow(self, tracks: list[Track]) -> tuple[list[Track], list[Track]]:
        """Make room for a step of each request; the last ones lose their KV if there is none."""
        active = list(tracks)
        skipped: list[Track] = []
        position = 0
        while position < len(active):
            if self._kv.ask(active[position]):
                position += 1
            else:
                victim = active.pop()
                self._kv.release(victim)
                skipped.append(victim)
        return active, skipped

    def _pace(self, running: _Running, shares: list[float], now: float) -> None:
        """Set the length of a prefill, or of a decode's steps and how many there are."""
        work, active = running.work, running.active
        cost = self._costs[work.model]
        contexts = [track.context for track in active]
        if isinstance(work, Prefill):
            alone = cost.prefill.seconds(sum(contexts), sum([c * c for c in contexts]), len(active))
            running.step = alone * self._sharing.prefill_slowdown(work.share)
            running.steps = 1
            for track in active:
                if track.generated == 0:
                    track.prefill_start, track.prefill_s = now, running.step
            return
        slowdown = self._sharing.decode_slowdown(work.share, shares)
        running.step = cost.decode.step_s(len(active), sum(contexts)) * slowdown
        running.slope = cost.decode.context_s * len(active) * slowdown
        if self._sim.stepwise:
            running.steps = 1
            return
        left = min([t.output_tokens - t.generated for t in active])
        room = min([self._kv.spare(t) for t in active])
        running.steps = min(left, room, steps_until(running.step, running.slope, work.quota))

    def _complete(self, running: _Running, now: float) -> bool:
        """Book what ran and tell the scheduler; True if that may change what others should do."""
        recorder = self._sim.recorder
        segment = recorder.segment(running.start, running.step, running.slope, running.steps)
        finished = []
        for track in running.active:
            if isinstance(running.work, Decode):
                track.decode_s += now - running.start
            elif track.generated == 0:
                track.first_token = now
            track.generated += running.steps
            recorder.tokens(track.request.id, segment)
            if self._kv.spare(track) < 0:
                raise ConservationError(f"request {track.request.id} outgrew its KV grant")
            if track.generated >= track.output_tokens:
                finished.append(track)
        outcome = Outcome(
            running.start,
            now,
            running.steps,
            tuple([t.request for t in finished]),
            tuple([t.request for t in running.skipped]),
        )
        self.scheduler.record(running.work, outcome, now)
        for track in finished:
            self._kv.release(track)
            self._sim.finish(track, self, now)
        return isinstance(running.work, Prefill) or bool(finished or running.skipped)
