"""The controller's transport over Ray: calls to actors, transfers of KV, restarts in threads."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray.exceptions import RayError

from aegaeon.live.control.messages import Broken, Died, Message, Reaped, Restarted, Transferred
from aegaeon.live.events import HostKv, LiveRequest
from aegaeon.live.memory.kv_pool import in_flight
from aegaeon.live.ray.actors import CLOSE_S, Actor, Home
from aegaeon.live.ray.calls import brief, fetch

_COURIERS = 8


class RayTransport:
    """Sends to `actors`, which run at `homes`; answers are messages in `inbox`.

    `rebuild` replaces a dead actor and its home. `ending` returns whether the run is ending; a
    failed restart no longer matters then. `clock` returns seconds since the run began.
    """

    def __init__(
        self,
        actors: Mapping[int, Actor],
        homes: Mapping[int, Home],
        inbox: queue.Queue[Message],
        clock: Callable[[], float],
        rebuild: Callable[[int, int], None],
        ending: Callable[[], bool],
    ) -> None:
        self._actors = actors
        self._homes = homes
        self._inbox = inbox
        self._clock = clock
        self._rebuild = rebuild
        self._ending = ending
        self._epochs: Counter[int] = Counter()
        self._couriers = ThreadPoolExecutor(_COURIERS, thread_name_prefix="courier")
        self._restarts: list[threading.Thread] = []

    def node(self, instance: int) -> str:
        """Return the id of the instance's Ray node."""
        return self._homes[instance].node

    def epoch(self, instance: int) -> int:
        """Return the number of restarts of the instance."""
        return self._epochs[instance]

    def accept(self, instance: int, request: LiveRequest) -> None:
        """Send a request; a dead actor is reported by its stream of events, not here."""
        self._actors[instance].handle.accept.remote(request)

    def discard(self, instance: int, kv: HostKv, request: int) -> None:
        """Free KV in the host pool of the instance's node."""
        self._homes[instance].agent.discard.remote(kv, request)

    def transfer(
        self, kv: HostKv, request: int, transfer: int, origin: int, destination: int
    ) -> None:
        """Begin to move KV from agent to agent."""
        self._couriers.submit(self._transfer, kv, request, transfer, origin, destination)

    def restart(self, instance: int, requests: Collection[int], again: bool) -> None:
        """Begin to reap an instance and, with `again`, to rebuild it."""
        self._epochs[instance] += 1
        actor, home, epoch = self._actors[instance], self._homes[instance], self._epochs[instance]
        thread = threading.Thread(
            target=self._restart, args=(actor, home, epoch, list(requests), again), daemon=True
        )
        self._restarts.append(thread)
        thread.start()

    def stop(self, instance: int) -> None:
        """Ask the instance to end its stream of events."""
        self._actors[instance].handle.stop.remote()

    def join(self) -> None:
        """Wait for restarts; a restart ends early once the run is ending."""
        for thread in self._restarts:
            thread.join(CLOSE_S)

    def close(self) -> None:
        """Cancel transfers that have not begun; take no others."""
        self._couriers.shutdown(wait=False, cancel_futures=True)

    def _transfer(
        self, kv: HostKv, request: int, transfer: int, origin: int, destination: int
    ) -> None:
        began, landed = time.perf_counter(), None
        try:
            # The bytes go from node to node; this process has only a reference.
            blocks = self._homes[origin].agent.read.remote(kv, request)
            landed = ray.get(self._homes[destination].agent.write.remote(kv, request, blocks))
        except RayError:
            # The KV is recomputed from the prompt. The end of its agent reports a lost node.
            landed = None
        seconds = time.perf_counter() - began
        nbytes = 0 if landed is None else landed.nbytes
        done = (destination, self._clock(), request, transfer, landed, nbytes, seconds)
        self._inbox.put(Transferred(*done))

    def _restart(
        self, actor: Actor, home: Home, epoch: int, requests: list[int], again: bool
    ) -> None:
        ident = actor.spec.id
        try:
            _reap(actor, home, requests)
            self._inbox.put(Reaped(ident, epoch))
            if again:
                self._rebuild(ident, epoch)
                self._inbox.put(Restarted(ident, epoch))
        except Exception as error:
            if (again or requests) and not self._ending():
                missed = "was not restarted" if again else "does not end"
                what = f"{actor.name} {missed} ({brief(error)}); see {actor.log}"
                self._inbox.put(Died(ident, epoch, what) if again else Broken(what))


def _reap(actor: Actor, home: Home, requests: list[int]) -> None:
    """Kill the process, then free the KV that it held and the KV of `requests` sent to it."""
    ray.kill(actor.handle)
    holders = [actor.holder, *map(in_flight, requests)]
    freed: Any = home.agent.reap.remote(home.process, holders)
    fetch(freed, CLOSE_S, "host KV pool")
