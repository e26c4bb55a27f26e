"""The interface from the controller to instances and nodes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from aegaeon.live.events import HostKv, LiveRequest


class Transport(Protocol):
    """Sends to instances, named by id, and to nodes.

    Answers are messages in the controller's inbox. No method may wait for an instance.
    """

    def node(self, instance: int) -> str:
        """Return the name of the node whose host KV pool the instance uses."""
        ...

    def epoch(self, instance: int) -> int:
        """Return the number of restarts of the instance."""
        ...

    def accept(self, instance: int, request: LiveRequest) -> None:
        """Send a request to an instance."""
        ...

    def discard(self, instance: int, kv: HostKv, request: int) -> None:
        """Free KV of a request in the host pool of the instance's node."""
        ...

    def transfer(
        self, kv: HostKv, request: int, transfer: int, origin: int, destination: int
    ) -> None:
        """Begin a transfer between the nodes of two instances; `Transferred` reports the end."""
        ...

    def restart(self, instance: int, requests: Collection[int], again: bool) -> None:
        """Reap a dead instance: free its KV, and the KV of `requests` that were sent to it.

        `Reaped` reports the end. With `again` the instance is then restarted, and `Restarted`
        reports that. The instance's epoch rises at once.
        """
        ...

    def stop(self, instance: int) -> None:
        """Let an instance finish its work item and end; `Ended` reports the end."""
        ...
