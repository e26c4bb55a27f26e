"""A simulated instance whose models are all resident and share its SMs and bandwidth (MuxServe)."""

from __future__ import annotations

import math
from typing import NamedTuple

from aegaeon.core import Decode, Fail, Idle, InstanceSpec, Outcome, Prefill, Work
from aegaeon.policy.interface import Scheduler
from aegaeon.policy.lifecycle import ConservationError
from aegaeon.sim.context import Context
from aegaeon.sim.kv import KvGrants
from aegaeon.sim.segment import Segment
from aegaeon.sim.track import Track

_SHARE_TOLERANCE = 1e-6
Mix = list[tuple[bool, float]]


class _Admitted(NamedTuple):
    """Work with room for its KV; its speed depends on the other work that starts with it."""

    work: Prefill | Decode
    active: list[Track]
    skipped: list[Track]


class SpaceSharedInstance:
    """One device on which several resident models run at once, each work item on a share of SMs.

    Every decode stops at the end of its step when a prefill ends, a request finishes, KV runs out
    or the mix of running work changes: the scheduler may then change batches and shares. A step
    that has begun keeps its speed. A request that finds no room for its KV loses the KV and is
    reported as skipped. Its next prefill recomputes the prompt and the answer so far, as MuxServe's
    engine does.
    """

    def __init__(self, spec: InstanceSpec, scheduler: Scheduler, context: Context) -> None:
        if spec.sharing is None:
            raise ValueError(f"instance {spec.id}: resident models need InstanceSpec.sharing")
        self.spec = spec
        self._scheduler = scheduler
        self._sharing = spec.sharing
        self._context = context
        self._kv = KvGrants(spec.kv_bytes)
        self._segments: dict[int, Segment] = {}
        self._mix: Mix = []
        self._version = 0
        self._alarm = 0

    def accept(self, track: Track, now: float) -> None:
        """Give the scheduler a request; start or cut work as it asks."""
        cut = self._scheduler.add(track.request, now)
        self._fill(now)
        if cut:
            self._cut(now)

    def wake(self, version: int, now: float) -> None:
        """Handle the event scheduled under `version`, unless a cut has replaced it."""
        segment = self._segments.pop(version, None)
        if segment is not None:
            if self._complete(segment, now):
                self._cut(now)
        elif version != self._alarm:
            return
        self._fill(now)

    def audit(self) -> None:
        """Check at the end that nothing runs and that no KV is left."""
        self._kv.audit()
        if self._segments:
            raise ConservationError(f"instance {self.spec.id} ends with work running")

    def _fill(self, now: float) -> None:
        """Start work until the scheduler has no more, then set the speed of what started."""
        started: list[_Admitted] = []
        shortage = False
        work: Work = self._scheduler.next_work(now)
        while not isinstance(work, Idle):
            if isinstance(work, Fail):
                self._fail(work, now)
            else:
                admitted = self._admit(work)
                shortage = shortage or bool(admitted.skipped)
                if admitted.active:
                    started.append(admitted)
                else:
                    self._scheduler.record(work, Outcome(now, now, 0, skipped=work.requests), now)
            work = self._scheduler.next_work(now)
        if work.until < math.inf:
            self._alarm = self._schedule(work.until)
        mix = self._mix_of([s.work for s in self._segments.values()] + [a.work for a in started])
        if mix != self._mix or shortage:
            self._mix = mix
            self._cut(now)
        for admitted in started:
            segment = self._segment(admitted, mix, now, shortage)
            self._segments[self._schedule(segment.end)] = segment

    def _mix_of(self, running: list[Prefill | Decode]) -> Mix:
        mix = sorted([(isinstance(work, Decode), work.share) for work in running])
        if sum([share for _, share in mix]) > 1 + _SHARE_TOLERANCE:
            raise ConservationError(f"instance {self.spec.id}: SM shares exceed 1 in {mix}")
        return mix

    def _schedule(self, time: float) -> int:
        self._version += 1
        self._context.events.schedule(time, self, self._version)
        return self._version

    def _cut(self, now: float) -> None:
        for version, segment in list(self._segments.items()):
            if segment.cut(now):
                del self._segments[version]
                self._segments[self._schedule(segment.end)] = segment

    def _fail(self, work: Fail, now: float) -> None:
        for request in work.requests:
            track = self._context.lifecycle.tracks[request.id]
            self._kv.release(track)
            self._context.fail(track, self.spec.id, now)

    def _admit(self, work: Prefill | Decode) -> _Admitted:
        """Find room for as much of the batch as fits; nothing runs if nothing does."""
        tracks = [self._context.lifecycle.tracks[request.id] for request in work.requests]
        find = self._room_for_prompts if isinstance(work, Prefill) else self._room_for_step
        return _Admitted(work, *find(tracks))

    def _room_for_prompts(self, tracks: list[Track]) -> tuple[list[Track], list[Track]]:
        active: list[Track] = []
        skipped: list[Track] = []
        for track in tracks:
            (active if not skipped and self._kv.ask(track) else skipped).append(track)
        return active, skipped

    def _room_for_step(self, tracks: list[Track]) -> tuple[list[Track], list[Track]]:
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

    def _segment(self, admitted: _Admitted, mix: Mix, now: float, shortage: bool) -> Segment:
        """Return the prefill, or the decode steps, at the speed that `mix` leaves."""
        work, active, skipped = admitted
        cost = self._context.costs[work.model]
        contexts = [track.context for track in active]
        if isinstance(work, Prefill):
            alone = cost.prefill.seconds(sum(contexts), sum([c * c for c in contexts]), len(active))
            seconds = alone * self._sharing.prefill_slowdown(work.share)
            for track in active:
                if track.generated == 0:
                    track.prefill_start, track.prefill_s = now, seconds
            return Segment(work, active, skipped, now, seconds, 0.0, 1, 0.0)
        slowdown = self._sharing.decode_slowdown(work.share, [s for decode, s in mix if decode])
        step = cost.decode.step_s(len(active), sum(contexts)) * slowdown
        slope = cost.decode.context_s * len(active) * slowdown
        left = min([t.output_tokens - t.generated for t in active])
        room = min([self._kv.spare(t) for t in active])
        most = 1 if shortage or self._context.stepwise else min(left, room)
        return Segment(work, active, skipped, now, step, slope, most, work.quota)

    def _complete(self, segment: Segment, now: float) -> bool:
        """Count what ran and tell the scheduler; True if other work should be cut."""
        recorder, start = self._context.recorder, segment.start
        number = recorder.segment(start, segment.step, segment.slope, segment.steps)
        finished = []
        for track in segment.active:
            if isinstance(segment.work, Decode):
                track.decode_s += now - start
            elif track.generated == 0:
                track.first_token = now
            track.generated += segment.steps
            recorder.tokens(track.request.id, number)
            if self._kv.spare(track) < 0:
                raise ConservationError(f"request {track.request.id} outgrew its KV grant")
            if track.generated >= track.output_tokens:
                finished.append(track)
        done = tuple([t.request for t in finished])
        skipped = tuple([t.request for t in segment.skipped])
        outcome = Outcome(start, now, segment.steps, done, skipped, busy_s=now - start)
        self._scheduler.record(segment.work, outcome, now)
        for track in finished:
            self._kv.release(track)
            self._context.finish(track, self.spec.id, now)
        return isinstance(segment.work, Prefill) or bool(finished or segment.skipped)
