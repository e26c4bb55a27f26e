"""The actors of a live run: instances in their places, an agent per node, what replaces them."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from aegaeon.core import Deployment, Fleet
from aegaeon.live.control.controller import Message
from aegaeon.live.control.tracks import LiveError
from aegaeon.live.events import Carried, HostKv, PoolSample
from aegaeon.live.measure.calibrate import warm_up
from aegaeon.live.measure.probe import Round, Sample
from aegaeon.live.memory.kv_pool import in_flight
from aegaeon.live.options import LiveOptions
from aegaeon.live.ray.cluster import fetch
from aegaeon.live.ray.instance_actor import InstanceActor, InstancePlan
from aegaeon.live.ray.launcher import SLOT
from aegaeon.live.ray.node_agent import NodeAgent
from aegaeon.live.ray.port import CLOSE_S, ActorPort, brief
from aegaeon.policy.interface import System

Places = Mapping[int, tuple[Any, int]]

_LEAD_S = 0.1
_PINGS = 9
_COURIERS = 8
_NOBODY = -1
# What an agent has to close in a run that failed or was told to stop.
_HASTE_S = 3.0


class Session:
    """The actors of one run; `places` are each instance's placement group and bundle."""

    def __init__(self, fleet: Fleet, places: Places, options: LiveOptions, folder: Path) -> None:
        self.inbox: queue.Queue[Message] = queue.Queue()
        self._places = places
        self._options = options
        self._agents: dict[str, Any] = {}
        self._plans: dict[int, InstancePlan] = {}
        # Holder 1 is whoever has no number of its own.
        self._holders = itertools.count(2)
        self._couriers = ThreadPoolExecutor(_COURIERS, thread_name_prefix="courier")
        self._repairs: list[threading.Thread] = []
        self._making = threading.Lock()
        self._closing = False
        self._start: Callable[[ActorPort], Any] | None = None
        self._clock: Callable[[], float] = time.perf_counter
        self.ports: dict[int, ActorPort] = {}
        for spec in fleet:
            log = folder / "logs" / f"instance_{spec.id}_{spec.stage.value}.log"
            self.ports[spec.id] = ActorPort(spec, log, self)
            self._make(self.ports[spec.id])

    def open(self, deployment: Deployment) -> None:
        """Make each node's memory and each instance's engines."""
        timeout, ports = self._options.start_timeout_s, list(self.ports.values())
        found = fetch([port.handle.where.remote() for port in ports], timeout, "instances")
        for port, (node, process) in zip(ports, found, strict=True):
            port.node, port.process, port.agent = node, process, self._agent(node)
        asked = {n: a.prepare.remote(deployment.models) for n, a in self._agents.items()}
        prepared = {n: fetch(ref, timeout, "checkpoints") for n, ref in asked.items()}
        for port in ports:
            shared, paths = prepared[port.node]
            self._plans[port.spec.id] = InstancePlan(
                port.spec, deployment.models, shared, paths, self._options, port.holder
            )
        opening = [port.handle.open.remote(self._plans[port.spec.id]) for port in ports]
        fetch(opening, timeout, "engines")

    def measure(self, tasks: Sequence[Mapping[int, Round]]) -> dict[int, list[Sample]]:
        """Carry out one task after the other; return the samples by instance.

        A task is what each of some instances measures at the same time, the others being idle.
        Events leave the instances as in a run, and nobody reads them.
        """
        ports = {ident: self.ports[ident] for task in tasks for ident in task}
        timeout = self._options.start_timeout_s
        found: dict[int, list[Sample]] = {ident: [] for ident in ports}
        unread: queue.Queue[Message] = queue.Queue()
        for port in ports.values():
            port.listen(unread)
        for task in tasks:
            asked = [ports[ident].handle.measure.remote(round_) for ident, round_ in task.items()]
            made = fetch(asked, timeout, "measurements")
            for ident, samples in zip(task, made, strict=True):
                found[ident] += samples
        ended = [port.handle.measured.remote() for port in ports.values()]
        fetch(ended, timeout, "measurements")
        for port in ports.values():
            port.join()
        return found

    def measure_together(self, rounds: Sequence[Round]) -> dict[int, list[Sample]]:
        """Carry out each round on all instances at once; return the samples by instance."""
        return self.measure([dict.fromkeys(self.ports, round_) for round_ in rounds])

    def start(self, system: System, deployment: Deployment) -> Callable[[], float]:
        """Start all schedulers at one time 0 and return the run's clock."""
        offsets = {port.node: self._offset(port) for port in self.ports.values()}
        for port in self.ports.values():
            port.listen(self.inbox)
        began = time.perf_counter() + _LEAD_S
        self._clock = lambda: time.perf_counter() - began
        self._start = lambda port: port.handle.start.remote(
            system, deployment, began + offsets[port.node]
        )
        starts = [self._start(port) for port in self.ports.values()]
        for node, agent in self._agents.items():
            starts.append(agent.watch.remote(node, began + offsets[node]))
            threading.Thread(target=self._attend, args=(node, agent), daemon=True).start()
        fetch(starts, self._options.start_timeout_s, "schedulers")
        return self._clock

    def carry(self, port: ActorPort, kv: HostKv, request: int, ticket: int, there: int) -> None:
        """Begin to move KV between nodes, from agent to agent; a message tells."""
        self._couriers.submit(self._carry, port, kv, request, ticket, there)

    def restart(self, port: ActorPort, requests: Collection[int], again: bool) -> None:
        """Begin to bury an instance and, with `again`, to make it anew; messages tell."""
        arguments = (port, port.epoch, list(requests), again)
        thread = threading.Thread(target=self._restart, args=arguments, daemon=True)
        self._repairs.append(thread)
        thread.start()

    def pool_samples(self) -> list[PoolSample]:
        """Return what the nodes' host KV pools held over the run."""
        asked = [agent.samples.remote() for agent in self._agents.values()]
        return [s for found in fetch(asked, CLOSE_S, "host KV pool") for s in found]

    def check_empty(self) -> None:
        """Raise LiveError if a host KV pool still holds blocks, all requests being done."""
        # Closing gives back what was freed while a copy was in flight.
        self._close_instances()
        for node, agent in self._agents.items():
            used = fetch(agent.used_bytes.remote(), CLOSE_S, "host KV pool")
            if used:
                raise LiveError(f"node {node[:8]}: the host KV pool still holds {used:,} bytes")

    def close(self, broken: bool = False) -> None:
        """End every actor; those of a `broken` run are not asked to finish what they are doing."""
        self._close_instances(0.0 if broken else CLOSE_S)
        self._couriers.shutdown(wait=False, cancel_futures=True)
        # Even then: an agent has memory to remove.
        _end(list(self._agents.values()), _HASTE_S if broken else CLOSE_S)
        for port in self.ports.values():
            port.join()

    def _close_instances(self, patience_s: float = CLOSE_S) -> None:
        with self._making:
            closed, self._closing = self._closing, True
        if not closed:
            _end([port.handle for port in self.ports.values()], patience_s)
            for thread in self._repairs:
                thread.join(CLOSE_S)

    def _make(self, port: ActorPort) -> None:
        """Create an instance's actor in its place, under a new mark for the KV it will hold."""
        group, bundle = self._places[port.spec.id]
        options = self._options
        made = ray.remote(
            num_cpus=0,
            num_gpus=0 if options.device == "cpu" else port.spec.tp,
            resources={SLOT: port.spec.tp},
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"events": 1},
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=bundle
            ),
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(options.threads)}},
        )(InstanceActor)
        with self._making:
            if self._closing:
                raise LiveError(f"{port.name} is not made again: the run is ending")
            port.handle, port.process = made.remote(str(port.log)), None
            port.holder = next(self._holders)

    def _carry(self, home: ActorPort, kv: HostKv, request: int, ticket: int, there: int) -> None:
        began, landed = time.perf_counter(), None
        try:
            # The bytes go from node to node; this process only knows their name.
            blocks = home.agent.read.remote(kv, request)
            landed = ray.get(self.ports[there].agent.write.remote(kv, request, blocks))
        except RayError:
            # The prompt is computed again; if a node is lost, its agent's end tells.
            landed = None
        seconds = time.perf_counter() - began
        nbytes = 0 if landed is None else landed.nbytes
        event = Carried(self._clock(), request, ticket, landed, nbytes, seconds)
        self.inbox.put(Message(there, carried=event))

    def _restart(self, port: ActorPort, epoch: int, requests: list[int], again: bool) -> None:
        try:
            self._bury(port, requests)
            self.inbox.put(Message(port.spec.id, buried=True, epoch=epoch))
            if again:
                self._remake(port)
                self.inbox.put(Message(port.spec.id, ready=True, epoch=epoch))
        except Exception as error:
            if (again or requests) and not self._closing:
                missed = "was not made again" if again else "does not end"
                what = f"{port.name} {missed} ({brief(error)}); see {port.log}"
                self.inbox.put(Message(port.spec.id, error=what, epoch=epoch, fatal=not again))

    def _bury(self, port: ActorPort, requests: list[int]) -> None:
        """Make sure that the process is dead, then free what it held and was sent."""
        ray.kill(port.handle)
        holders = [port.holder, *map(in_flight, requests)]
        fetch(port.agent.bury.remote(port.process, holders), CLOSE_S, "host KV pool")

    def _remake(self, port: ActorPort) -> None:
        """Make the instance again in its place, its weights coming from the node's cache."""
        timeout = self._options.start_timeout_s
        self._make(port)
        _, port.process = fetch(port.handle.where.remote(), timeout, port.name)
        plan = replace(self._plans[port.spec.id], holder=port.holder)
        fetch(port.handle.open.remote(plan), timeout, port.name)
        self.measure([{port.spec.id: warm_up(plan.models)}])
        port.listen(self.inbox)
        if self._start is not None:
            fetch(self._start(port), timeout, port.name)

    def _agent(self, node: str) -> Any:  # noqa: ANN401
        if node not in self._agents:
            place = NodeAffinitySchedulingStrategy(node, soft=False)
            made = ray.remote(
                num_cpus=0, concurrency_groups={"life": 1}, scheduling_strategy=place
            )(NodeAgent)
            self._agents[node] = made.remote(self._options)
        return self._agents[node]

    def _attend(self, node: str, agent: Any) -> None:  # noqa: ANN401
        """Wait for an agent's end; the run cannot go on without one, as it owns the host memory."""
        try:
            ray.get(agent.lifetime.options(concurrency_group="life").remote())
        except RayError as error:
            if not self._closing:
                what = f"node {node[:8]}: its agent died ({brief(error)}), and its host memory"
                self.inbox.put(Message(_NOBODY, error=what, fatal=True))

    def _offset(self, port: ActorPort) -> float:
        """Return the instance's clock minus ours; on one machine they are the same clock."""
        if port.node == ray.get_runtime_context().get_node_id():
            return 0.0
        best, offset = float("inf"), 0.0
        for _ in range(_PINGS):
            sent = time.perf_counter()
            there = ray.get(port.handle.now.remote())
            round_trip = time.perf_counter() - sent
            if round_trip < best:
                best, offset = round_trip, there - sent - round_trip / 2
        return offset


def _end(actors: Sequence[Any], patience_s: float) -> None:
    """Close actors and kill them; one that does not answer in time is only killed."""
    closing = [actor.close.remote() for actor in actors] if patience_s else []
    if closing:
        ray.wait(closing, num_returns=len(closing), timeout=patience_s)
    for actor in actors:
        ray.kill(actor)


@contextmanager
def started(fleet: Fleet, places: Places, options: LiveOptions, folder: Path) -> Iterator[Session]:
    """Create an actor per instance in its place; end all of them with the block.

    Whatever ends it early, an error or a signal, does not wait for engines that are being made.
    """
    session = Session(fleet, places, options, folder)
    try:
        yield session
    except BaseException:
        session.close(broken=True)
        raise
    session.close()
