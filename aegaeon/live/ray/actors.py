"""The actors of a live run's instances: creating, listening to and ending them."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from aegaeon.core import InstanceSpec
from aegaeon.live.control.messages import Died, Ended, Message, Reported
from aegaeon.live.control.tracks import LiveError
from aegaeon.live.options import LiveOptions
from aegaeon.live.ray.calls import brief
from aegaeon.live.ray.instance_actor import InstanceActor
from aegaeon.live.ray.launcher import SLOT

Places = Mapping[int, tuple[Any, int]]

CLOSE_S = 30.0
# The holder of a process that got no number of its own; the numbers of actors are higher.
HOLDER = 1


@dataclass(frozen=True, slots=True)
class Actor:
    """One incarnation of an instance: each restart creates another.

    `handle` is Ray's. `log` is the file of the process's output. `holder` is a number that no other
    incarnation of the run has; the host KV pool marks the incarnation's blocks with this number.
    """

    spec: InstanceSpec
    log: Path
    handle: Any
    holder: int

    @property
    def name(self) -> str:
        """The name of the instance in messages."""
        return f"instance {self.spec.id} ({self.spec.stage.value})"


@dataclass(frozen=True, slots=True)
class Home:
    """Where an actor runs: the node's id, the node's agent, the process's id and start time."""

    node: str
    agent: Any
    process: tuple[int, int]


class Actors:
    """Creates actors in their places (placement group and bundle), and ends every actor."""

    def __init__(self, places: Places, options: LiveOptions, folder: Path) -> None:
        self._places = places
        self._options = options
        self._folder = folder
        self._holders = itertools.count(HOLDER + 1)
        self._creating = threading.Lock()
        self._handles: dict[int, Any] = {}
        self.closing = False

    def create(self, spec: InstanceSpec) -> Actor:
        """Create an instance's actor; raise LiveError if the run is ending."""
        group, bundle = self._places[spec.id]
        options = self._options
        made = ray.remote(
            num_cpus=0,
            num_gpus=0 if options.device == "cpu" else spec.tp,
            resources={SLOT: spec.tp},
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"events": 1},
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=bundle
            ),
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(options.threads)}},
        )(InstanceActor)
        log = self._folder / "logs" / f"instance_{spec.id}_{spec.stage.value}.log"
        with self._creating:
            if self.closing:
                raise LiveError(f"instance {spec.id} is not restarted: the run is ending")
            handle = self._handles[spec.id] = made.remote(str(log))
            return Actor(spec, log, handle, next(self._holders))

    def close(self, patience_s: float) -> bool:
        """End every actor within `patience_s` seconds; return False if this was done before."""
        with self._creating:
            closed, self.closing = self.closing, True
        if not closed:
            end(list(self._handles.values()), patience_s)
        return not closed


def listen(actor: Actor, epoch: int, inbox: queue.Queue[Message]) -> threading.Thread:
    """Start and return a thread that puts all reports of an actor into `inbox`.

    The thread ends with the actor, after `Ended` or `Died`.
    """
    stream = actor.handle.events.options(
        num_returns="streaming", concurrency_group="events"
    ).remote()
    reader = threading.Thread(target=_read, args=(actor, epoch, stream, inbox), daemon=True)
    reader.start()
    return reader


def _read(actor: Actor, epoch: int, stream: Iterator[Any], inbox: queue.Queue[Message]) -> None:
    ident = actor.spec.id
    try:
        for ref in stream:
            inbox.put(Reported(ident, epoch, ray.get(ref)))
    except Exception as error:
        inbox.put(Died(ident, epoch, f"{actor.name} died ({brief(error)}); see {actor.log}"))
    else:
        inbox.put(Ended(ident, epoch))


def end(actors: Sequence[Any], patience_s: float) -> None:
    """Close actors, then kill them; after `patience_s` seconds an unclosed actor is killed too."""
    closing = [actor.close.remote() for actor in actors] if patience_s else []
    if closing:
        ray.wait(closing, num_returns=len(closing), timeout=patience_s)
    for actor in actors:
        ray.kill(actor)
