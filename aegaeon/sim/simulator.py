"""The simulated backend: a virtual clock that carries out what a system's policies decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aegaeon.core import Arrival, CostModel, Deployment, Fleet
from aegaeon.policy.interface import System
from aegaeon.policy.lifecycle import ConservationError, Lifecycle
from aegaeon.runlog import RunLog
from aegaeon.sim.context import Context
from aegaeon.sim.instances import Instance, build_instance
from aegaeon.sim.track import Track


@dataclass(frozen=True, slots=True)
class _Message:
    """A request on its way to an instance."""

    instance: Instance
    track: Track

    def wake(self, version: int, now: float) -> None:
        """Arrive."""
        self.instance.accept(self.track, now)


class Simulator:
    """Runs one system over one workload; deterministic in its inputs.

    `fleet` is the system's, checked. `arrivals` are in order of time and are taken one by one.
    `truth` is what models really cost; the policies see `deployment.costs`. With `stepwise`, a
    decode segment never exceeds one step, which must not change any token's time. `progress` is
    told how many requests have arrived.
    """

    def __init__(
        self,
        system: System,
        deployment: Deployment,
        fleet: Fleet,
        arrivals: Iterable[Arrival],
        truth: CostModel | None = None,
        stepwise: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._deployment = deployment
        self._fleet = fleet
        self._arrivals = arrivals
        self._progress = progress
        self._lifecycle = Lifecycle[Track](system.dispatcher(deployment, fleet), fleet, self)
        costs = deployment.costs if truth is None else truth
        self._context = Context(costs, deployment.overheads, self._lifecycle, stepwise)
        self._instances = {
            spec.id: build_instance(spec, system.scheduler(deployment, spec), self._context)
            for spec in fleet
        }
        self._tracks: list[Track] = []

    def run(self) -> RunLog:
        """Play every arrival and event; raise `ConservationError` if anything got lost."""
        events, now = self._context.events, 0.0
        for arrival in self._arrivals:
            if arrival.request.arrival < now:
                raise ValueError(f"request {arrival.request.id} arrives before the one before it")
            now = arrival.request.arrival
            events.run_until(now)
            self._arrive(arrival, now)
        events.run_until(math.inf)
        self._audit()
        self._tracks.sort(key=lambda track: track.request.id)
        return self._context.recorder.log(
            self._tracks, self._fleet, self._deployment.costs, events.scheduled
        )

    def send(self, track: Track, instance: int, now: float) -> None:
        """Bring a request to an instance, after a message's latency if there is one."""
        costs = self._context.overheads
        latency = costs.hand_over_s if track.generated else costs.send_s
        if latency:
            message = _Message(self._instances[instance], track)
            self._context.events.schedule(now + latency, message, 0)
        else:
            self._instances[instance].accept(track, now)

    def hold(self, track: Track, now: float) -> None:
        """Do nothing: a held request waits for the dispatcher."""

    def refuse(self, track: Track, reason: str, now: float) -> None:
        """Note why a request is never served."""
        track.failure = reason

    def _arrive(self, arrival: Arrival, now: float) -> None:
        track = Track(arrival, self._context.costs[arrival.request.model])
        self._tracks.append(track)
        self._lifecycle.arrive(track, now)
        if self._progress is not None:
            self._progress(len(self._tracks))

    def _audit(self) -> None:
        if lost := self._lifecycle.tracks:
            raise ConservationError(f"{len(lost)} requests never left, first {list(lost)[:5]}")
        for instance in self._instances.values():
            instance.audit()
