"""The driver's end of one instance: sends by calls to its actor, receives by one stream."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

import ray

from aegaeon.core import InstanceSpec
from aegaeon.live.control.controller import Message
from aegaeon.live.events import HostKv, LiveRequest

CLOSE_S = 30.0


class Keeper(Protocol):
    """What a port leaves to its session, which knows the other nodes and can make actors."""

    def carry(self, port: ActorPort, kv: HostKv, request: int, ticket: int, there: int) -> None:
        """Begin to move KV from the port's node to another instance's."""
        ...

    def restart(self, port: ActorPort, requests: Collection[int], again: bool) -> None:
        """Begin to bury the port's instance and, with `again`, to make it anew."""
        ...


class ActorPort:
    """`handle` is the instance's actor, `process` its id and start time, `holder` its KV's mark."""

    def __init__(self, spec: InstanceSpec, log: Path, keeper: Keeper) -> None:
        self.spec = spec
        self.log = log
        self.epoch = 0
        self.holder = 0
        self.node = ""
        self.handle: Any = None
        self.agent: Any = None
        self.process: tuple[int, int] | None = None
        self._keeper = keeper
        self._reader: threading.Thread | None = None

    @property
    def name(self) -> str:
        """What messages call the instance."""
        return f"instance {self.spec.id} ({self.spec.stage.value})"

    def accept(self, request: LiveRequest) -> None:
        """Send a request; if the actor is dead, its stream tells."""
        self.handle.accept.remote(request)

    def discard(self, kv: HostKv, request: int) -> None:
        """Free KV in the node's host pool."""
        self.agent.discard.remote(kv, request)

    def carry(self, kv: HostKv, request: int, ticket: int, there: int) -> None:
        """Begin to move KV to the node of instance `there`."""
        self._keeper.carry(self, kv, request, ticket, there)

    def restart(self, requests: Collection[int], again: bool) -> None:
        """Begin to bury the instance; what it still says is not heard any more."""
        self.epoch += 1
        self._keeper.restart(self, requests, again)

    def stop(self) -> None:
        """Ask the instance to end its stream."""
        self.handle.stop.remote()

    def listen(self, inbox: queue.Queue[Message]) -> None:
        """Put all that the instance reports into `inbox` from now on."""
        stream = self.handle.events.options(
            num_returns="streaming", concurrency_group="events"
        ).remote()
        arguments = (stream, inbox.put, self.epoch)
        self._reader = threading.Thread(target=self._read, args=arguments, daemon=True)
        self._reader.start()

    def join(self) -> None:
        """Wait for the reader, whose stream has ended."""
        if self._reader is not None:
            self._reader.join(CLOSE_S)

    def _read(self, stream: Iterator[Any], put: Callable[[Message], None], epoch: int) -> None:
        ident = self.spec.id
        try:
            for ref in stream:
                put(Message(ident, ray.get(ref), epoch=epoch))
        except Exception as error:
            what = f"{self.name} died ({brief(error)}); see {self.log}"
            put(Message(ident, error=what, epoch=epoch))
        else:
            put(Message(ident, ended=True, epoch=epoch))


def brief(error: Exception) -> str:
    """Return an error's kind and last line; Ray's others tell where its processes are."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
