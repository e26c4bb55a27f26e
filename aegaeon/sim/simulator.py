"""The simulated backend: a virtual clock that carries out what a system's policies decide."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aegaeon.core import Arrival, CostModel, Deployment, Fleet, InstanceSpec, Stage
from aegaeon.errors import UserError
from aegaeon.policy.interface import Placement, Refusal, Scheduler, System
from aegaeon.sim.neighbours import Crowd
from aegaeon.sim.recorder import Recorder
from aegaeon.sim.space_shared import SharedInstance
from aegaeon.sim.time_shared import TimeSharedInstance
from aegaeon.sim.track import GONE, HELD, ConservationError, Track


class Sleeper(Protocol):
    """What can be woken at a time."""

    def wake(self, version: int, now: float) -> None:
        """Handle an event that was scheduled."""
        ...


class Instance(Protocol):
    """What the simulator asks of an instance, whatever it shares."""

    spec: InstanceSpec

    def accept(self, track: Track, now: float) -> None:
        """Take a request in."""
        ...

    def wake(self, version: int, now: float) -> None:
        """Handle an event the instance scheduled."""
        ...

    def audit(self) -> None:
        """Check the books at the end."""
        ...


@dataclass(frozen=True, slots=True)
class _Message:
    """A request on its way to an instance."""

    instance: Instance
    track: Track

    def wake(self, version: int, now: float) -> None:
        """Arrive."""
        self.instance.accept(self.track, now)


@dataclass(frozen=True, slots=True)
class Simulation:
    """The finished run: every request's track in order of id, and what the recorder wrote."""

    tracks: Sequence[Track]
    recorder: Recorder
    fleet: Fleet
    refusals: dict[str, int]
    events: int


class Simulator:
    """Runs one system over one list of arrivals; deterministic in its inputs.

    `truth` is what things really cost; the policies see `deployment.costs`. With `stepwise`, a
    decode segment never exceeds one step, which must not change any token's time.
    """

    def __init__(
        self,
        system: System,
        deployment: Deployment,
        arrivals: Sequence[Arrival],
        truth: CostModel | None = None,
        stepwise: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        costs = deployment.costs if truth is None else truth
        self.overheads = deployment.overheads
        self.crowd = Crowd(deployment.overheads)
        self.recorder = Recorder()
        self.stepwise = stepwise
        self.tracks = {a.request.id: Track(a, costs[a.request.model]) for a in arrivals}
        self._arrivals = sorted([a.request for a in arrivals], key=lambda r: (r.arrival, r.id))
        self._fleet = system.fleet(deployment)
        check_sizes(arrivals, self._fleet, costs)
        self._dispatcher = system.dispatcher(deployment, self._fleet)
        self._instances: dict[int, Instance] = {
            spec.id: _instance(spec, system.scheduler(deployment, spec), costs, self)
            for spec in self._fleet
        }
        split = any(spec.stage is Stage.PREFILL for spec in self._fleet)
        self._first_stage = Stage.PREFILL if split else Stage.FULL
        self._heap: list[tuple[float, int, Sleeper, int]] = []
        self._sequence = 0
        self._refusals: dict[str, int] = {}
        self._progress = progress

    def run(self) -> Simulation:
        """Play every arrival and event; raise `ConservationError` if anything got lost."""
        heap, arrivals = self._heap, self._arrivals
        position = 0
        while heap or position < len(arrivals):
            if position < len(arrivals) and (not heap or arrivals[position].arrival <= heap[0][0]):
                request = arrivals[position]
                position += 1
                self._offer(self.tracks[request.id], self._first_stage, request.arrival)
                if self._progress is not None:
                    self._progress(position)
            else:
                now, _, instance, version = heapq.heappop(heap)
                instance.wake(version, now)
        self._audit()
        ordered = [self.tracks[r.id] for r in arrivals]
        ordered.sort(key=lambda t: t.request.id)
        return Simulation(ordered, self.recorder, self._fleet, self._refusals, self._sequence)

    def schedule(self, time: float, instance: Sleeper, version: int) -> None:
        """Wake `instance` at `time`; it recognises outdated versions itself."""
        self._sequence += 1
        heapq.heappush(self._heap, (time, self._sequence, instance, version))

    def prefilled(self, track: Track, instance: Instance, now: float) -> None:
        """Hand a prefilled request, first token made, to a decoding instance."""
        track.move(instance.spec.id, HELD)
        self._carry_out(
            self._dispatcher.finished(track.request, Stage.PREFILL, instance.spec.id, now), now
        )
        self._offer(track, Stage.DECODE, now)

    def finish(self, track: Track, instance: Instance, now: float) -> None:
        """Note a request's last token."""
        if track.generated != track.output_tokens:
            raise ConservationError(
                f"request {track.request.id}: {track.generated} tokens made, "
                f"{track.output_tokens} asked for"
            )
        track.finish = now
        self._leave(track, instance, now)

    def fail(self, track: Track, instance: Instance, now: float) -> None:
        """Note that an instance gave a request up."""
        track.failed = True
        self._leave(track, instance, now)

    def _leave(self, track: Track, instance: Instance, now: float) -> None:
        track.move(instance.spec.id, GONE)
        stage = instance.spec.stage
        self._carry_out(self._dispatcher.finished(track.request, stage, instance.spec.id, now), now)

    def _offer(self, track: Track, stage: Stage, now: float) -> None:
        answer = self._dispatcher.place(track.request, stage, now)
        if answer is not None:
            self._assign(track, answer, now)

    def _carry_out(self, placements: Sequence[Placement], now: float) -> None:
        for placement in placements:
            self._assign(self.tracks[placement.request.id], placement.instance, now)

    def _assign(self, track: Track, answer: int | Refusal, now: float) -> None:
        if isinstance(answer, Refusal):
            track.move(HELD, GONE)
            track.failed = True
            self._refusals[answer.reason] = self._refusals.get(answer.reason, 0) + 1
        else:
            track.move(HELD, answer)
            self._send(self._instances[answer], track, now)

    def _send(self, instance: Instance, track: Track, now: float) -> None:
        again = bool(track.generated)
        latency = self.overheads.hand_over_s if again else self.overheads.send_s
        if latency:
            self.schedule(now + latency, _Message(instance, track), 0)
        else:
            instance.accept(track, now)

    def _audit(self) -> None:
        lost = [t.request.id for t in self.tracks.values() if t.place != GONE]
        if lost:
            raise ConservationError(f"{len(lost)} requests never left, first {lost[:5]}")
        for instance in self._instances.values():
            instance.audit()


def _instance(
    spec: InstanceSpec, scheduler: Scheduler, costs: CostModel, sim: Simulator
) -> Instance:
    kind = SharedInstance if spec.models else TimeSharedInstance
    return kind(spec, scheduler, costs, sim)


def check_sizes(arrivals: Sequence[Arrival], fleet: Fleet, costs: CostModel) -> None:
    """Refuse, before any work, a request whose KV alone exceeds an instance's room."""
    room = min(spec.kv_bytes for spec in fleet)
    for arrival in arrivals:
        request = arrival.request
        tokens = request.input_tokens + arrival.output_tokens + 1
        need = tokens * costs[request.model].kv_bytes_per_token
        if need > room:
            raise UserError(
                f"workload: request {request.id} for {request.model} needs {need / 1e9:.1f} GB of "
                f"KV for its {tokens} tokens, and an instance has room for {room / 1e9:.1f} GB; "
                "lower workload.input_scale or output_scale, or choose a larger GPU"
            )
