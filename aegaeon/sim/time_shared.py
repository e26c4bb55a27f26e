"""A simulated instance that runs one model at a time and switches between models."""

from __future__ import annotations

from aegaeon.core import Decode, Fail, Idle, InstanceSpec, Outcome, Prefill, Stage, Work
from aegaeon.policy.interface import Scheduler
from aegaeon.policy.lifecycle import ConservationError
from aegaeon.sim.context import Context
from aegaeon.sim.copies import Copies
from aegaeon.sim.device_kv import DeviceKv
from aegaeon.sim.segment import Segment
from aegaeon.sim.track import Track


class TimeSharedInstance:
    """One device (or tensor-parallel group): its active model, its KV, one work item at a time.

    `copies` says how the weights of the next model come.
    """

    def __init__(
        self,
        spec: InstanceSpec,
        scheduler: Scheduler,
        context: Context,
        kv: DeviceKv,
        copies: Copies,
    ) -> None:
        self.spec = spec
        self._scheduler = scheduler
        self._context = context
        self._kv = kv
        self._copies = copies
        self._model: str | None = None
        self._segment: Segment | None = None
        self._busy = False
        self._woken = False
        self._admitted = 0
        self._version = 0
        self._turns = 0
        context.neighbours.join(self)

    def accept(self, track: Track, now: float) -> None:
        """Give the scheduler a request; cut or start work as it asks."""
        self._admitted += 1
        cut = self._scheduler.add(track.request, now)
        if not self._busy:
            self._woken = True
            self._next(now)
        elif cut and self._segment is not None and self._segment.cut(now):
            self._schedule(self._segment.end)

    def wake(self, version: int, now: float) -> None:
        """Handle the event scheduled under `version`, unless a cut has replaced it."""
        if version != self._version:
            return
        segment, self._segment = self._segment, None
        if segment is not None:
            self._complete(segment, now)
        self._next(now)

    def repace(self, now: float) -> None:
        """Run at the pace that the neighbours now leave."""
        segment = self._segment
        if segment is not None:
            step = segment.step
            if segment.repace(self._context.neighbours.pace(self, segment.work), now):
                if isinstance(segment.work, Prefill):
                    _add_prefill_s(segment.active, segment.step - step)
                self._schedule(segment.end)

    def audit(self) -> None:
        """Check at the end that nothing runs and that no byte of KV is left or uncounted."""
        self._kv.drain(float("inf"))
        self._kv.audit()
        if self._segment is not None or self._kv.used:
            raise ConservationError(f"instance {self.spec.id} ends with {self._kv.used} KV bytes")

    def _next(self, now: float) -> None:
        context, tracks = self._context, self._context.lifecycle.tracks
        self._busy = True
        work: Work = self._scheduler.next_work(now)
        while isinstance(work, Fail):
            for request in work.requests:
                context.fail(tracks[request.id], self.spec.id, now)
            work = self._scheduler.next_work(now)
        if isinstance(work, Idle):
            self._busy = False
            context.neighbours.note(self, False, now)
            if work.until != float("inf"):
                self._schedule(work.until)
            return
        self._start(work, [tracks[request.id] for request in work.requests], now)
        context.neighbours.note(self, True, now)

    def _start(self, work: Prefill | Decode, batch: list[Track], now: float) -> None:
        self._turns += 1
        in_place, switch_s = self._switch(work.model, now + self._overhead_s())
        ready, now = self._copies.before_work(work.prefetch, in_place, now)
        if isinstance(work, Prefill):
            segment = self._prefill(work, batch, ready, switch_s)
        else:
            segment = self._decode(work, batch, ready, now, switch_s)
        self._copies.after_start(work.prefetch, ready)
        self._segment = segment
        self._schedule(segment.end)

    def _schedule(self, time: float) -> None:
        self._version += 1
        self._context.events.schedule(time, self, self._version)

    def _overhead_s(self) -> float:
        """Return the seconds that this work item takes in addition to steps and copies."""
        costs, prefill = self._context.overheads, self.spec.stage is Stage.PREFILL
        each = costs.admit_prefill_s if prefill else costs.admit_decode_s
        seconds = costs.turn_s + self._admitted * each
        if self._woken:
            seconds += costs.wake_prefill_s if prefill else costs.wake_decode_s
        self._admitted, self._woken = 0, False
        return seconds

    def _switch(self, model: str, now: float) -> tuple[float, float | None]:
        """Make `model` the active one; return when its weights are in place, and what it took."""
        if model == self._model:
            return now, None
        if not (self.spec.lazy_eviction and self.spec.keep_kv):
            self._kv.clear(now)
        self._model = model
        ready, prefetched = self._copies.activate(model, now)
        size = self._context.costs[model].weight_bytes
        self._context.recorder.switch(now, self.spec.id, ready - now, prefetched, model, size)
        return ready, ready - now

    def _prefill(
        self, work: Prefill, batch: list[Track], ready: float, switch_s: float | None
    ) -> Segment:
        active, skipped = self._kv.fitting(batch)
        contexts = [t.context for t in active]
        start = self._kv.room_for_prompts(active, ready)
        pace = self._context.neighbours.pace(self, work)
        cost = self._context.costs[work.model].prefill
        seconds = cost.seconds(sum(contexts), sum([c * c for c in contexts]), len(active)) * pace
        for track in active:
            if not track.generated:
                track.prefill_start = start
            track.loaded_at = start
            track.last_run = self._turns
            self._kv.admit(track)
        _add_prefill_s(active, seconds)
        return Segment(work, active, skipped, start, seconds, 0.0, 1, 0.0, switch_s, pace)

    def _decode(
        self, work: Decode, batch: list[Track], ready: float, now: float, switch_s: float | None
    ) -> Segment:
        kv, cost = self._kv, self._context.costs[work.model]
        per_token = cost.kv_bytes_per_token
        here, skipped = kv.gather(batch, ready, now)
        start = self._copies.first_step(ready, [t.loaded_at for t in here])
        active = [t for t in here if t.loaded_at <= start]
        if len(active) < len(here):
            skipped += [t for t in here if t.loaded_at > start]
        kv.room_for_step(active, skipped, per_token, start)
        pace = self._context.neighbours.pace(self, work)
        step = cost.decode.step_s(len(active), sum([t.context for t in active])) * pace
        slope = cost.decode.context_s * len(active) * pace
        joins = [t.loaded_at for t in skipped if t.on_device and t.loaded_at > start]
        budget = min([work.quota, *[time - start for time in joins]])
        room = (kv.capacity - kv.used) // (len(active) * per_token)
        most = min(min([t.output_tokens - t.generated for t in active]), int(room))
        if self._context.stepwise or not all(t.on_device for t in here):
            # A request that just lost its place leaves room for another at the next step.
            most = 1
        for track in active:
            track.last_run = self._turns
        return Segment(work, active, skipped, start, step, slope, most, budget, switch_s, pace)

    def _complete(self, segment: Segment, now: float) -> None:
        context, parts = self._context, segment.parts
        prefill = isinstance(segment.work, Prefill)
        numbers = [context.recorder.segment(*part) for part in parts]
        start, steps = parts[0].start, sum([part.steps for part in parts])
        per_token = context.costs[segment.work.model].kv_bytes_per_token
        self._kv.grow(steps * len(segment.active) * per_token)
        seconds = now - start
        finished = []
        for track in segment.active:
            track.generated += steps
            for number in numbers:
                context.recorder.tokens(track.request.id, number)
            if not prefill:
                track.decode_s += seconds
            elif track.generated == 1:
                track.first_token = now
            if track.generated >= track.output_tokens:
                finished.append(track)
        done = tuple([t.request for t in finished])
        skipped = tuple([t.request for t in segment.skipped])
        outcome = Outcome(start, now, steps, done, skipped, segment.switch_s, seconds)
        self._scheduler.record(segment.work, outcome, now)
        for track in finished:
            self._kv.release(track)
            context.finish(track, self.spec.id, now)
        if prefill and self.spec.stage is Stage.PREFILL:
            self._hand_over([t for t in segment.active if t.place == self.spec.id], now)

    def _hand_over(self, tracks: list[Track], now: float) -> None:
        for track in tracks:
            self._kv.hand_over(track, now)
            self._context.lifecycle.prefilled(track, self.spec.id, now)


def _add_prefill_s(tracks: list[Track], seconds: float) -> None:
    for track in tracks:
        track.prefill_s += seconds
