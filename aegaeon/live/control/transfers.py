"""Transfers of KV from node to node, each with an id."""

from __future__ import annotations

import itertools

from aegaeon.live.control.messages import Transferred
from aegaeon.live.control.transport import Transport
from aegaeon.live.events import HostKv


class Transfers:
    """The transfers of a run.

    A request waits for one transfer at most. A transfer that was called off still lands, and its KV
    is then discarded. `open` is the number of transfers in flight; `landed` lists the others.
    """

    def __init__(self, transport: Transport) -> None:
        self.open = 0
        self.landed: list[Transferred] = []
        self._transport = transport
        self._ids = itertools.count(1)
        self._in_flight: dict[int, int] = {}

    def begin(self, kv: HostKv, request: int, origin: int, destination: int) -> None:
        """Start a transfer of a request's KV from the node of `origin` to that of `destination`."""
        self.open += 1
        self._in_flight[request] = transfer = next(self._ids)
        self._transport.transfer(kv, request, transfer, origin, destination)

    def in_flight(self, request: int) -> bool:
        """Return whether a request waits for its KV."""
        return request in self._in_flight

    def call_off(self, request: int) -> None:
        """Forget the transfer of a request whose instance died; the KV is discarded on landing."""
        self._in_flight.pop(request, None)

    def land(self, done: Transferred) -> bool:
        """Note the end of a transfer; return whether the request still waits for this transfer."""
        self.open -= 1
        self.landed.append(done)
        if self._in_flight.get(done.request) == done.transfer:
            del self._in_flight[done.request]
            return True
        if done.kv is not None:
            self._transport.discard(done.instance, done.kv, done.request)
        return False
