"""`backend=live`: one run on real engines under Ray, from requests to what became of them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from aegaeon.core import CostModel, Deployment, Fleet, InstanceSpec, Request
from aegaeon.engine.actor import InstanceActor, InstancePlan
from aegaeon.engine.agent import NodeAgent
from aegaeon.engine.cluster import connected, fetch, reserved
from aegaeon.engine.controller import Controller, LiveError, LiveRun, Message
from aegaeon.engine.events import HostKv, LiveRequest
from aegaeon.engine.nodes import SLOT
from aegaeon.engine.options import LiveOptions
from aegaeon.errors import UserError
from aegaeon.policy.interface import System

# Every vocabulary has these; what a prompt says does not change its cost.
_PROMPT_IDS = (1, 500)
_LEAD_S = 0.1
_PINGS = 9
_CLOSE_S = 30.0


def run_live(
    system: System,
    deployment: Deployment,
    requests: Sequence[Request],
    options: LiveOptions,
    folder: Path,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> LiveRun:
    """Serve `requests` on live engines and return what happened to each; logs go to `folder`.

    Prompts are random token ids drawn from `seed`. Raises UserError for what cannot be run, and
    LiveError if an instance dies or anything gets lost. Nothing stays behind either way.
    """
    fleet = live_fleet(system, deployment, options)
    with (
        connected(options, len(fleet)),
        reserved(fleet, options.device != "cpu", options.start_timeout_s) as places,
        _instances(fleet, places, options, folder) as session,
    ):
        costs = session.open(deployment)
        deployment = replace(deployment, costs=costs)
        clock = session.start(system, deployment)
        run = Controller(
            system.dispatcher(deployment, fleet),
            fleet,
            prompts(requests, seed),
            session.ports,
            session.inbox,
            clock,
            options.stall_timeout_s,
            progress,
        ).run()
        if all(track.failure is None for track in run.tracks):
            session.check_empty()
        return replace(run, costs=costs)


def live_fleet(system: System, deployment: Deployment, options: LiveOptions) -> Fleet:
    """Return the system's instances as the live backend runs them, or raise UserError."""
    fleet = system.fleet(deployment)
    for spec in fleet:
        if spec.tp > 1 or spec.models:
            why = "tensor parallelism" if spec.tp > 1 else "models that share a device"
            raise UserError(f"backend: live does not run {why} yet; choose another system or model")
    if options.device not in ("cpu", "cuda"):
        raise UserError(f"backend.device: {options.device!r} is neither cpu nor cuda")
    if options.kv_bytes:
        fleet = tuple([replace(spec, kv_bytes=options.kv_bytes) for spec in fleet])
    return fleet


def prompts(requests: Sequence[Request], seed: int) -> list[LiveRequest]:
    """Give every request a random prompt of its length; it produces exactly its output length."""
    made = []
    for request in requests:
        rng = np.random.default_rng([seed, request.id])
        prompt = tuple(rng.integers(*_PROMPT_IDS, size=request.input_tokens).tolist())
        params = {
            "temperature": 0.0,
            "max_tokens": request.output_tokens,
            "ignore_eos": True,
            "detokenize": False,
        }
        made.append(LiveRequest(request, prompt, params))
    return made


class ActorPort:
    """The driver's end of one instance: sends by calls, receives by one stream."""

    def __init__(self, spec: InstanceSpec, handle: Any, log: Path) -> None:  # noqa: ANN401
        self.spec = spec
        self.handle = handle
        self.log = log
        self.node = ""
        self.agent: Any = None
        self._reader: threading.Thread | None = None

    def accept(self, request: LiveRequest) -> None:
        """Send a request; if the actor is dead, its stream tells."""
        self.handle.accept.remote(request)

    def discard(self, kv: HostKv) -> None:
        """Free KV in the node's host pool."""
        self.agent.discard.remote(kv)

    def stop(self) -> None:
        """Ask the instance to end its stream."""
        self.handle.stop.remote()

    def listen(self, inbox: queue.Queue[Message]) -> None:
        """Put all that the instance reports into `inbox` from now on."""
        stream = self.handle.events.options(
            num_returns="streaming", concurrency_group="events"
        ).remote()
        self._reader = threading.Thread(target=self._read, args=(stream, inbox), daemon=True)
        self._reader.start()

    def join(self) -> None:
        """Wait for the reader, whose stream has ended."""
        if self._reader is not None:
            self._reader.join(_CLOSE_S)

    def _read(self, stream: Iterator[Any], inbox: queue.Queue[Message]) -> None:
        try:
            for ref in stream:
                inbox.put(Message(self.spec.id, ray.get(ref)))
        except Exception as error:
            reason = str(error).strip().splitlines()
            kind = f"{type(error).__name__}: {reason[-1] if reason else ''}"
            what = (
                f"instance {self.spec.id} ({self.spec.stage.value}) died ({kind}); see {self.log}"
            )
            inbox.put(Message(self.spec.id, error=what))
        else:
            inbox.put(Message(self.spec.id, ended=True))


class Session:
    """The actors of one run, instances and one agent per node."""

    def __init__(self, ports: Mapping[int, ActorPort], options: LiveOptions) -> None:
        self.ports = ports
        self.inbox: queue.Queue[Message] = queue.Queue()
        self._options = options
        self._agents: dict[str, Any] = {}
        self._handles = [port.handle for port in ports.values()]

    def open(self, deployment: Deployment) -> CostModel:
        """Make each node's memory and each instance's engines; return the models' costs."""
        timeout = self._options.start_timeout_s
        nodes = fetch(
            [port.handle.node.remote() for port in self.ports.values()], timeout, "instances"
        )
        for port, node in zip(self.ports.values(), nodes, strict=True):
            port.node, port.agent = node, self._agent(node)
        asked = {n: a.prepare.remote(deployment.models) for n, a in self._agents.items()}
        prepared = {n: fetch(ref, timeout, "checkpoints") for n, ref in asked.items()}
        opening = []
        for port in self.ports.values():
            shared, paths = prepared[port.node]
            plan = InstancePlan(
                port.spec, deployment.models, deployment.costs, shared, paths, self._options
            )
            opening.append(port.handle.open.remote(plan))
        costs: CostModel = fetch(opening, timeout, "engines")[0]
        return costs

    def start(self, system: System, deployment: Deployment) -> Callable[[], float]:
        """Start all schedulers at one time 0 and return the run's clock."""
        offsets = {ident: self._offset(port) for ident, port in self.ports.items()}
        for port in self.ports.values():
            port.listen(self.inbox)
        began = time.perf_counter() + _LEAD_S
        starts = [
            port.handle.start.remote(system, deployment, began + offsets[ident])
            for ident, port in self.ports.items()
        ]
        fetch(starts, self._options.start_timeout_s, "schedulers")
        return lambda: time.perf_counter() - began

    def check_empty(self) -> None:
        """Raise LiveError if a host KV pool still holds blocks, all requests being done."""
        # Closing gives back what was freed while a copy was in flight.
        self._close_instances()
        for node, agent in self._agents.items():
            used = fetch(agent.used_bytes.remote(), _CLOSE_S, "host KV pool")
            if used:
                raise LiveError(f"node {node[:8]}: the host KV pool still holds {used:,} bytes")

    def close(self) -> None:
        """End every actor, kindly if it listens."""
        self._close_instances()
        _end(list(self._agents.values()))
        for port in self.ports.values():
            port.join()

    def _close_instances(self) -> None:
        handles, self._handles = self._handles, []
        _end(handles)

    def _agent(self, node: str) -> Any:  # noqa: ANN401
        if node not in self._agents:
            place = NodeAffinitySchedulingStrategy(node, soft=False)
            made = ray.remote(NodeAgent).options(num_cpus=0, scheduling_strategy=place)
            self._agents[node] = made.remote(self._options)
        return self._agents[node]

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


def _end(actors: Sequence[Any]) -> None:
    """Close actors and kill them; one that does not answer is only killed."""
    closing = [actor.close.remote() for actor in actors]
    if closing:
        ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_S)
    for actor in actors:
        ray.kill(actor)


@contextmanager
def _instances(
    fleet: Fleet, places: Mapping[int, tuple[Any, int]], options: LiveOptions, folder: Path
) -> Iterator[Session]:
    """Create an actor per instance in its place; end all of them with the block."""
    environment = {"OMP_NUM_THREADS": str(options.threads)}
    ports = {}
    for spec in fleet:
        group, bundle = places[spec.id]
        log = folder / "logs" / f"instance_{spec.id}_{spec.stage.value}.log"
        actor = ray.remote(
            num_cpus=0,
            num_gpus=0 if options.device == "cpu" else 1,
            resources={SLOT: 1},
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"events": 1},
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=bundle
            ),
            runtime_env={"env_vars": environment},
        )(InstanceActor)
        ports[spec.id] = ActorPort(spec, actor.remote(str(log)), log)
    session = Session(ports, options)
    try:
        yield session
    finally:
        session.close()
