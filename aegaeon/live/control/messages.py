"""What the controller of a live run hears in its inbox, one type per message.

An `epoch` counts how often the instance was restarted: a message of an earlier epoch is late.
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
    """A dead instance, and what was sent to it, holds no memory any more."""

    instance: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Restarted:
    """A dead instance is restarted and takes requests."""

    instance: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Transferred:
    """A transfer has ended at `time`: a request's KV went to the node of `instance`, in `seconds`.

    `kv` is where the KV lies there, None if there was no room. `transfer` is the transfer's id.
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
    """The run cannot go on, whatever its instances do."""

    reason: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """The source of requests has some that were not known before."""


Message = Reported | Ended | Died | Reaped | Restarted | Transferred | Broken | Submitted
