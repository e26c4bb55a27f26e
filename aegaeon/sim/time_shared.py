"""A simulated instance that runs one model at a time and switches between models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegaeon.core import (
    CostModel,
    Decode,
    Fail,
    Idle,
    InstanceSpec,
    ModelCost,
    Outcome,
    Prefill,
    Stage,
    Work,
)
from aegaeon.policy.interface import Scheduler
from aegaeon.sim.kv import KvSpace
from aegaeon.sim.segment import Running
from aegaeon.sim.track import ConservationError, Track
from aegaeon.sim.weights import HostLink, WeightSlots

if TYPE_CHECKING:
    from aegaeon.sim.simulator import Simulator


class TimeSharedInstance:
    """One device (or tensor-parallel group): weights slots, host link, KV space, one work."""

    def __init__(
        self, spec: InstanceSpec, scheduler: Scheduler, costs: CostModel, sim: Simulator
    ) -> None:
        self.spec = spec
        self.scheduler = scheduler
        self._costs = costs
        self._sim = sim
        self._overheads = sim.overheads
        self._inline = self._overheads.inline_copies
        self._link = HostLink(spec.link_bandwidth, self._overheads.kv_move_s)
        self._slots = WeightSlots(spec.weight_slots)
        self._admitted = 0
        self._woken = False
        self._switch_scale = spec.device.link_bandwidth / spec.link_bandwidth
        self._kv = KvSpace(spec.kv_bytes)
        self._model: str | None = None
        self._prefetched: str | None = None
        self._running: Running | None = None
        self._busy = False
        self._version = 0
        self._turns = 0
        sim.crowd.join(self)

    def accept(self, track: Track, now: float) -> None:
        """Give the scheduler a request; cut or start work as it asks."""
        self._admitted += 1
        cut = self.scheduler.add(track.request, now)
        if not self._busy:
            self._woken = True
            self._next(now)
        elif cut and self._running is not None and self._running.cut(now):
            self._schedule(self._running.end)

    def wake(self, version: int, now: float) -> None:
        """Handle the event scheduled under `version`, unless a cut has replaced it."""
        if version != self._version:
            return
        running, self._running = self._running, None
        if running is not None:
            self._complete(running, now)
        self._next(now)

    def repace(self, now: float) -> None:
        """Run at the pace that the neighbours now leave."""
        running = self._running
        if running is not None:
            step = running.step
            if running.repace(self._sim.crowd.pace(self, running.work), now):
                if isinstance(running.work, Prefill):
                    _add_prefill_s(running.active, running.step - step)
                self._schedule(running.end)

    def audit(self) -> None:
        """Check at the end that nothing runs and that no byte of KV is left or uncounted."""
        self._kv.drain(float("inf"))
        self._kv.audit()
        if self._running is not None or self._kv.used:
            raise ConservationError(f"instance {self.spec.id} ends with {self._kv.used} KV bytes")

    def _next(self, now: float) -> None:
        self._busy = True
        work: Work = self.scheduler.next_work(now)
        while isinstance(work, Fail):
            for request in work.requests:
                self._sim.fail(self._sim.tracks[request.id], self, now)
            work = self.scheduler.next_work(now)
        if isinstance(work, Idle):
            self._busy = False
            self._sim.crowd.note(self, False, now)
            if work.until != float("inf"):
                self._schedule(work.until)
            return
        tracks = [self._sim.tracks[request.id] for request in work.requests]
        self._turns += 1
        ready, switch_s = self._switch(work.model, now + self._bookkeeping_s())
        if self._inline:
            # One thread does everything, one thing after another.
            ready = now = self._bring_inline(work.prefetch, ready)
        if isinstance(work, Prefill):
            self._running = self._prefill(work, tracks, ready, switch_s)
        else:
            self._running = self._decode(work, tracks, ready, now, switch_s)
        if work.prefetch is not None and not self._inline:
            self._prefetch(work.prefetch, ready)
        self._schedule(self._running.end)
        self._sim.crowd.note(self, True, now)

    def _schedule(self, time: float) -> None:
        self._version += 1
        self._sim.schedule(time, self, self._version)

    def _bookkeeping_s(self) -> float:
        """Return what this piece of work costs beside steps and copies."""
        costs, prefill = self._overheads, self.spec.stage is Stage.PREFILL
        each = costs.admit_prefill_s if prefill else costs.admit_decode_s
        seconds = costs.turn_s + self._admitted * each
        if self._woken:
            seconds += costs.wake_prefill_s if prefill else costs.wake_decode_s
        self._admitted, self._woken = 0, False
        return seconds

    def _bring_inline(self, model: str | None, now: float) -> float:
        """Copy a prefetched model's weights before the first step; return when that is done."""
        if model is None or self._slots.use(model):
            return now
        cost = self._costs[model]
        return now + max(0.0, cost.switch.host_s - cost.switch.activate_s)

    def _switch(self, model: str, now: float) -> tuple[float, float | None]:
        """Put the model's weights in place; return when they are, and what it took."""
        if model == self._model:
            return now, None
        if not (self.spec.lazy_eviction and self.spec.keep_kv):
            self._clear(now)
        if self._inline:
            prefetched = self._slots.use(model)
            ready = now if prefetched else now + self._costs[model].switch.host_s
        else:
            prefetched = model == self._prefetched
            if not prefetched:
                self._link.copy_weights(now, self._costs[model].switch.host_s * self._switch_scale)
            ready = self._link.await_weights(now)
        if prefetched:
            ready += self._costs[model].switch.activate_s
        self._prefetched = None
        self._model = model
        size = self._costs[model].weight_bytes
        self._sim.recorder.switch(now, self.spec.id, ready - now, prefetched, model, size)
        return ready, ready - now

    def _clear(self, now: float) -> None:
        """Take every KV off the device: to the host, or away for good."""
        for track in list(self._kv.residents.values()):
            if self.spec.keep_kv:
                self._evict(track, now)
            else:
                self._kv.release(track)

    def _prefetch(self, model: str, now: float) -> None:
        if self.spec.weight_slots < 2:
            raise ConservationError(f"instance {self.spec.id} has no slot to prefetch into")
        if model not in (self._model, self._prefetched):
            self._prefetched = model
            self._link.copy_weights(now, self._costs[model].switch.host_s * self._switch_scale)

    def _prefill(
        self, work: Prefill, tracks: list[Track], ready: float, switch_s: float | None
    ) -> Running:
        tracks, skipped = self._fitting(tracks)
        tokens = sum(t.context for t in tracks)
        squares = sum(t.context**2 for t in tracks)
        start = self._room_for_prompts(tracks, ready)
        pace = self._sim.crowd.pace(self, work)
        seconds = self._costs[work.model].prefill.seconds(tokens, squares, len(tracks)) * pace
        for track in tracks:
            if not track.generated:
                track.prefill_start = start
            track.loaded_at = start
            track.last_run = self._turns
            self._kv.admit(track)
        _add_prefill_s(tracks, seconds)
        return Running(work, tracks, skipped, start, seconds, 0.0, 1, 0.0, switch_s, pace)

    def _fitting(self, tracks: list[Track]) -> tuple[list[Track], list[Track]]:
        """Cut a prefill batch before the first request for which the device has no room."""
        size = 0
        for position, track in enumerate(tracks):
            size += (track.context + 1) * track.cost.kv_bytes_per_token
            if size > self._kv.capacity:
                return tracks[:position], tracks[position:]
        return tracks, []

    def _room_for_prompts(self, tracks: list[Track], ready: float) -> float:
        """Return when the prompts' KV fits: at once, or once enough has left for the host."""
        size = sum((t.context + 1) * t.cost.kv_bytes_per_token for t in tracks)
        self._kv.drain(ready)
        keep = {t.request.id for t in tracks}
        while self._kv.used + size > self._kv.capacity:
            departure = self._kv.next_departure()
            ready = max(ready, self._evict_one(keep, ready) if departure is None else departure)
            self._kv.drain(ready)
        return ready

    def _decode(
        self, work: Decode, tracks: list[Track], ready: float, now: float, switch_s: float | None
    ) -> Running:
        cost = self._costs[work.model]
        here, skipped = self._gather(tracks, ready, now)
        first = max if self._inline else min
        start = max(ready, first(t.loaded_at for t in here))
        active = [t for t in here if t.loaded_at <= start]
        if len(active) < len(here):
            skipped += [t for t in here if t.loaded_at > start]
        self._make_growth_room(active, skipped, cost, start)
        batch, pace = len(active), self._sim.crowd.pace(self, work)
        step = cost.decode.step_s(batch, sum([t.context for t in active])) * pace
        slope = cost.decode.context_s * batch * pace
        joins = [t.loaded_at for t in skipped if t.on_device and t.loaded_at > start]
        budget = min([work.quota, *[time - start for time in joins]])
        most = min([t.output_tokens - t.generated for t in active])
        room = (self._kv.capacity - self._kv.used) // (batch * cost.kv_bytes_per_token)
        most = min(most, int(room))
        if self._sim.stepwise or not all(t.on_device for t in here):
            # Whoever just lost its place leaves room that another may find at the next step.
            most = 1
        for track in active:
            track.last_run = self._turns
        return Running(work, active, skipped, start, step, slope, most, budget, switch_s, pace)

    def _gather(
        self, tracks: list[Track], ready: float, now: float
    ) -> tuple[list[Track], list[Track]]:
        """Bring the batch's KV to the device; return who is (or will be) here and who is not.

        Nobody overtakes a request that found no room, or small ones would starve a large one.
        """
        here: list[Track] = []
        skipped: list[Track] = []
        keep: set[int] | None = None
        for track in tracks:
            if not track.on_device:
                keep = {t.request.id for t in tracks} if keep is None else keep
                if skipped or not self._load(track, keep, ready, now):
                    skipped.append(track)
                    continue
            here.append(track)
        return here, skipped

    def _load(self, track: Track, keep: set[int], ready: float, now: float) -> bool:
        begin = max(now, track.host_at)
        size = track.kv_bytes
        while self._kv.used + size + track.cost.kv_bytes_per_token > self._kv.capacity:
            if self._kv.victim(keep) is None:
                return False
            begin = max(begin, self._evict_one(keep, now))
        self._kv.admit(track)
        track.loaded_at = self._link.move_in(begin, size)
        track.kv_wait_s += max(0.0, track.loaded_at - ready)
        seconds = track.loaded_at - begin
        self._sim.recorder.move(begin, self.spec.id, seconds, size, track.request.id)
        return True

    def _make_growth_room(
        self, active: list[Track], skipped: list[Track], cost: ModelCost, now: float
    ) -> None:
        """Make room for one step of every active request; the last ones wait if there is none."""
        while self._kv.used + len(active) * cost.kv_bytes_per_token > self._kv.capacity:
            if self._kv.victim({t.request.id for t in active}) is not None:
                self._evict_one({t.request.id for t in active}, now)
            else:
                track = active.pop()
                self._evict(track, now)
                skipped.append(track)

    def _evict_one(self, keep: set[int], now: float) -> float:
        victim = self._kv.victim(keep)
        if victim is None:
            raise ConservationError(f"instance {self.spec.id}: nothing left to evict")
        return self._evict(victim, now)

    def _evict(self, track: Track, now: float) -> float:
        size = self._kv.release(track)
        # Still on its way in: it waits no longer for this move but for its next turn.
        track.kv_wait_s -= max(0.0, track.loaded_at - now)
        track.host_at = self._link.move_out(max(now, track.loaded_at), size)
        seconds = track.host_at - now
        self._sim.recorder.move(now, self.spec.id, seconds, size, track.request.id, out=True)
        return track.host_at

    def _complete(self, running: Running, now: float) -> None:
        recorder, parts = self._sim.recorder, running.parts
        prefill = isinstance(running.work, Prefill)
        segments = [recorder.segment(*part) for part in parts]
        start, steps = parts[0].start, sum([part.steps for part in parts])
        per_token = self._costs[running.work.model].kv_bytes_per_token
        self._kv.grow(steps * len(running.active) * per_token)
        seconds = now - start
        finished = []
        for track in running.active:
            track.generated += steps
            for segment in segments:
                recorder.tokens(track.request.id, segment)
            if not prefill:
                track.decode_s += seconds
            elif track.generated == 1:
                track.first_token = now
            if track.generated >= track.output_tokens:
                finished.append(track)
        outcome = Outcome(
            start,
            now,
            steps,
            tuple([t.request for t in finished]),
            tuple([t.request for t in running.skipped]),
            running.switch_s,
        )
        self.scheduler.record(running.work, outcome, now)
        for track in finished:
            self._kv.release(track)
            self._sim.finish(track, self, now)
        if prefill and self.spec.stage is Stage.PREFILL:
            self._hand_over([t for t in running.active if t.place == self.spec.id], now)

    def _hand_over(self, tracks: list[Track], now: float) -> None:
        for track in tracks:
            size = track.kv_bytes
            track.host_at = self._link.move_out(now, size)
            seconds = track.host_at - now
            self._sim.recorder.move(now, self.spec.id, seconds, size, track.request.id, out=True)
            self._kv.depart(track, track.host_at)
            # Turns are counted per instance: the next one has not run it yet.
            track.last_run = 0
            self._sim.prefilled(track, self, now)


def _add_prefill_s(tracks: list[Track], seconds: float) -> None:
    for track in tracks:
        track.prefill_s += seconds
