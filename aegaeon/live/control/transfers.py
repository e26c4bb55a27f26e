"""KV on its way from node to node, each transfer under an id of its own."""

from __future__ import annotations

import itertools

from aegaeon.live.control.messages import Transferred
from aegaeon.live.control.transport import Transport
from aegaeon.live.events import HostKv


class Transfers:
    """A request has one transfer in flight at most; a transfer that was called off lands late.

    `open` counts transfers that have not landed, `landed` has those that have.
    """

    def __init__(self, transport: Transport) -> None:
        self.open = 0
        self.landed: list[Transferred] = []
        self._transport = transport
        self._ids = itertools.count(1)
        self._in_flight: dict[int, int] = {}

    def begin(self, kv: HostKv, request: int, origin: int, destination: int) -> None:
        """Start to move a request's KV between the nodes of two instances."""
        self.open += 1
        self._in_flight[request] = transfer = next(self._ids)
        self._transport.transfer(kv, request, transfer, origin, destination)

    def in_flight(self, request: int) -> bool:
        """Tell whether a request waits for its KV."""
        return request in self._in_flight

    def call_off(self, request: int) -> None:
        """Forget a request's transfer: its instance died; the KV is discarded where it lands."""
        self._in_flight.pop(request, None)

    def land(self, done: Transferred) -> bool:
        """Note the end of a transfer; return whether its request still waits for it."""
        self.open -= 1
        self.landed.append(done)
        if self._in_flight.get(done.request) == done.transfer:
            del self._in_flight[done.request]
            return True
        if done.kv is not None:
            self._transport.discard(done.instance, done.kv, done.request)
        return False
