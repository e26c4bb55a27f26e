"""The messages in the inbox of a live run's controller.

`epoch` is the number of restarts of the instance. The controller drops messages of earlier epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aegaeon.live.events import Event, HostKv


@dataclass(frozen=True, slots=True)
class Reported:
    """An instance reports events, in order."""

    instance: int
    epoch: int
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Ended:
    """An instance has ended because it was told to stop."""

    instance: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Died:
    """An instance has died, or could not be restarted."""

    instance: int
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reaped:
    """All memory of a dead instance, and of the requests sent to it, is free."""

    instance: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Restarted:
    """A dead instance is restarted and takes requests."""

    instance: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Transferred:
    """A transfer to the node of `instance` ended at `time`, after `seconds`.

    `kv` is the request's KV on that node, or None if the pool had no room. `transfer` is the
    transfer's id, and `nbytes` the bytes moved.
    """

    instance: int
    time: float
    request: int
    transfer: int
    kv: HostKv | None
    nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Broken:
    """The run cannot go on, for a reason outside its instances."""

    reason: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """The source has new requests."""


Message = Reported | Ended | Died | Reaped | Restarted | Transferred | Broken | Submitted
