"""A session: the actors of one live run, from the making of engines to the release of memory."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from aegaeon.core import Deployment, Fleet
from aegaeon.live.control.messages import Message
from aegaeon.live.measure.calibrate import warm_up
from aegaeon.live.measure.probe import Round, Sample
from aegaeon.live.options import LiveOptions
from aegaeon.live.ray.actors import CLOSE_S, HOLDER, Actor, Actors, Home, Places, listen
from aegaeon.live.ray.agents import Agents
from aegaeon.live.ray.calls import fetch
from aegaeon.live.ray.instance_actor import InstancePlan
from aegaeon.live.ray.transport import RayTransport
from aegaeon.policy.interface import System
from aegaeon.runlog import PoolSample

_LEAD_S = 0.1
_PINGS = 9
# The time in which the agents of a failed or stopped run must close.
_SHUTDOWN_S = 3.0


@dataclass(frozen=True, slots=True)
class _Start:
    """What schedulers start with; `began` is the run's time 0 on each node's clock, in seconds."""

    system: System
    deployment: Deployment
    began: Mapping[str, float]


class Session:
    """The actors of one run.

    `actors`, `homes` (where each actor runs) and `plans` (what each instance opens with) are by the
    instance's id.

    One class, because opening, measuring, starting, restarting and closing use the same actors, and
    a restart replaces entries of `actors` and `homes` while the run goes on.
    """

    def __init__(
        self,
        creator: Actors,
        agents: Agents,
        actors: dict[int, Actor],
        homes: dict[int, Home],
        plans: Mapping[int, InstancePlan],
        options: LiveOptions,
    ) -> None:
        self.inbox: queue.Queue[Message] = queue.Queue()
        self._creator = creator
        self._agents = agents
        self._actors = actors
        self._homes = homes
        self._plans = plans
        self._timeout_s = options.start_timeout_s
        self._readers: dict[int, threading.Thread] = {}
        self._began = time.perf_counter()
        self._start: _Start | None = None
        self.transport = RayTransport(
            actors, homes, self.inbox, self.clock, self._rebuild, self._ending
        )

    def clock(self) -> float:
        """Return the seconds since the run began."""
        return time.perf_counter() - self._began

    def open(self) -> None:
        """Make each instance's model engines; raise UserError if that takes too long."""
        opening = [actor.handle.open.remote(self._plan(actor)) for actor in self._actors.values()]
        fetch(opening, self._timeout_s, "engines")

    def measure(self, tasks: Sequence[Mapping[int, Round]]) -> dict[int, list[Sample]]:
        """Carry out one task after the other; return the samples by instance.

        A task has the rounds that some instances measure at the same time; the other instances are
        idle. Events leave the instances as in a run, and are not read.
        """
        actors = {ident: self._actors[ident] for task in tasks for ident in task}
        found: dict[int, list[Sample]] = {ident: [] for ident in actors}
        unread: queue.Queue[Message] = queue.Queue()
        readers = [listen(actor, 0, unread) for actor in actors.values()]
        for task in tasks:
            asked = [actors[ident].handle.measure.remote(round_) for ident, round_ in task.items()]
            made = fetch(asked, self._timeout_s, "measurements")
            for ident, samples in zip(task, made, strict=True):
                found[ident] += samples
        ended = [actor.handle.measured.remote() for actor in actors.values()]
        fetch(ended, self._timeout_s, "measurements")
        for reader in readers:
            reader.join(CLOSE_S)
        return found

    def measure_together(self, rounds: Sequence[Round]) -> dict[int, list[Sample]]:
        """Carry out each round on all instances at once; return the samples by instance."""
        return self.measure([dict.fromkeys(self._actors, round_) for round_ in rounds])

    def start(self, system: System, deployment: Deployment) -> Callable[[], float]:
        """Start all schedulers with one time 0; return the run's clock, in seconds."""
        firsts = {home.node: ident for ident, home in self._homes.items()}
        offsets = {node: self._offset(ident) for node, ident in firsts.items()}
        for ident in self._actors:
            self._listen(ident, epoch=0)
        self._began = time.perf_counter() + _LEAD_S
        began = {node: self._began + offset for node, offset in offsets.items()}
        self._start = start = _Start(system, deployment, began)
        starts = [self._start_scheduler(ident, start) for ident in self._actors]
        starts += self._agents.watch(began, self.inbox, self._ending)
        fetch(starts, self._timeout_s, "schedulers")
        return self.clock

    def pool_samples(self) -> list[PoolSample]:
        """Return the samples of all nodes' host KV pools over the run."""
        return self._agents.samples()

    def check_empty(self) -> None:
        """Raise LiveError if a host KV pool holds blocks; call this after the last request."""
        # Closing frees blocks that were given up while a copy was in flight.
        self._close_instances(CLOSE_S)
        self._agents.check_empty()

    def close(self, broken: bool = False) -> None:
        """End every actor; in a `broken` run without waiting for work items to end."""
        self._close_instances(0.0 if broken else CLOSE_S)
        self.transport.close()
        # A broken run's agents need time too, because they remove shared memory.
        self._agents.close(_SHUTDOWN_S if broken else CLOSE_S)
        for reader in self._readers.values():
            reader.join(CLOSE_S)

    def _close_instances(self, patience_s: float) -> None:
        if self._creator.close(patience_s):
            self.transport.join()

    def _ending(self) -> bool:
        return self._creator.closing

    def _plan(self, actor: Actor) -> InstancePlan:
        return replace(self._plans[actor.spec.id], holder=actor.holder)

    def _listen(self, ident: int, epoch: int) -> None:
        self._readers[ident] = listen(self._actors[ident], epoch, self.inbox)

    def _start_scheduler(self, ident: int, start: _Start) -> Any:  # noqa: ANN401
        began = start.began[self._homes[ident].node]
        return self._actors[ident].handle.start.remote(start.system, start.deployment, began)

    def _rebuild(self, ident: int, epoch: int) -> None:
        """Restart a dead instance in its place; weights come from the node's cache."""
        timeout, old = self._timeout_s, self._homes[ident]
        actor = self._actors[ident] = self._creator.create(self._actors[ident].spec)
        _, process = fetch(actor.handle.where.remote(), timeout, actor.name)
        self._homes[ident] = Home(old.node, old.agent, process)
        plan = self._plan(actor)
        fetch(actor.handle.open.remote(plan), timeout, actor.name)
        self.measure([{ident: warm_up(plan.models)}])
        self._listen(ident, epoch)
        if self._start is not None:
            fetch(self._start_scheduler(ident, self._start), timeout, actor.name)

    def _offset(self, ident: int) -> float:
        """Return an instance's clock minus this process's, in seconds; 0 on the same machine.

        The value is that of the shortest of _PINGS round trips.
        """
        if self._homes[ident].node == ray.get_runtime_context().get_node_id():
            return 0.0
        best, offset = float("inf"), 0.0
        for _ in range(_PINGS):
            sent = time.perf_counter()
            there = ray.get(self._actors[ident].handle.now.remote())
            round_trip = time.perf_counter() - sent
            if round_trip < best:
                best, offset = round_trip, there - sent - round_trip / 2
        return offset


@contextmanager
def started(
    fleet: Fleet, places: Places, deployment: Deployment, options: LiveOptions, folder: Path
) -> Iterator[Session]:
    """Yield a session whose engines are made; all actors of the session end with the block.

    An error or a signal ends the block without waiting for engines that are still being made.
    """
    creator, agents = Actors(places, options, folder), Agents(options)
    try:
        session = _placed(fleet, creator, agents, deployment, options)
    except BaseException:
        _close(creator, agents)
        raise
    try:
        session.open()
        yield session
    except BaseException:
        session.close(broken=True)
        raise
    session.close()


def _placed(
    fleet: Fleet, creator: Actors, agents: Agents, deployment: Deployment, options: LiveOptions
) -> Session:
    """Create an actor per instance, ask each for its node, and reserve the nodes' memory."""
    actors = {spec.id: creator.create(spec) for spec in fleet}
    where = [actor.handle.where.remote() for actor in actors.values()]
    found = fetch(where, options.start_timeout_s, "instances")
    homes = {
        ident: Home(node, agents.of(node), process)
        for ident, (node, process) in zip(actors, found, strict=True)
    }
    prepared = agents.prepare(deployment.models, options.start_timeout_s)
    plans = {
        spec.id: InstancePlan(
            spec, deployment.models, *prepared[homes[spec.id].node], options, HOLDER
        )
        for spec in fleet
    }
    return Session(creator, agents, actors, homes, plans, options)


def _close(creator: Actors, agents: Agents) -> None:
    creator.close(0.0)
    agents.close(_SHUTDOWN_S)
