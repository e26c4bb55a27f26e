"""The contract between a policy and the two backends that obey it.

A policy never reads a clock and never does I/O: the backend tells the time with every question. The
dispatcher lives with the controller and decides *where*; a scheduler lives with one instance and
decides *what next*. The dispatcher keeps its own ledger of what it placed, so a live controller
needs no message per token or per step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from aegaeon.core import Deployment, Fleet, InstanceSpec, Outcome, Request, Stage, Work

Ledger = TypeVar("Ledger")
NO_LENGTHS: Mapping[int, int] = {}


@dataclass(frozen=True, slots=True)
class Refusal:
    """The system will never serve a request, and why; all its tokens count as late."""

    reason: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a held request goes now, or why it is given up."""

    request: Request
    instance: int | Refusal


class Dispatcher(Protocol):
    """Global: which instance serves a request's prefill, decode or whole life."""

    def place(self, request: Request, stage: Stage, now: float) -> int | Refusal | None:
        """Return the instance's id, a refusal, or None to hold the request for `finished`."""
        ...

    def finished(
        self, request: Request, stage: Stage, instance: int, now: float
    ) -> Sequence[Placement]:
        """Note that `request` left `instance` (done or failed); return held requests that go."""
        ...

    def available(self, instance: int, up: bool, now: float) -> Sequence[Placement]:
        """Note that an instance went down or came back; return held requests that go.

        The requests of an instance that is down leave it by `finished` and are placed again.
        `place` answers with an instance that is down only if all are; the request then waits
        there. Only live instances die: the simulator never calls this.
        """
        ...


def serving(ledgers: Mapping[int, Ledger], down: Collection[int]) -> Collection[Ledger]:
    """Return the ledgers of instances that are not `down`, or of all if every one is."""
    if not down:
        return ledgers.values()
    return [ledgers[i] for i in ledgers if i not in down] or ledgers.values()


class Scheduler(Protocol):
    """Local: what one instance does next."""

    def add(self, request: Request, now: float) -> bool:
        """Accept a request; True asks to cut the running work at its next step's end."""
        ...

    def next_work(self, now: float) -> Work:
        """Return the next work item; called when the instance has none."""
        ...

    def record(self, work: Work, outcome: Outcome, now: float) -> None:
        """Learn the outcome of a work item."""
        ...

    def cancel(self, request: Request, now: float) -> None:
        """Forget a request that was added, is not done, and is in no work under way.

        Its user took the request back; its tokens so far were recorded. The simulator never calls
        this.
        """
        ...


@dataclass
class System(ABC):
    """A serving system: its options, how it lays out the devices, and its policies.

    A subclass is a plain dataclass, because it is also the schema of its configuration group.
    """

    name: str = ""

    @property
    def oracle(self) -> bool:
        """Whether the policies read true output lengths, which no operator knows beforehand."""
        return False

    @property
    def shares_devices(self) -> bool:
        """Whether several models run on one device at the same time, which no live engine does."""
        return False

    @abstractmethod
    def fleet(self, deployment: Deployment) -> Fleet:
        """Divide the devices into instances; raise `UserError` if that is impossible."""

    @abstractmethod
    def dispatcher(self, deployment: Deployment, fleet: Fleet) -> Dispatcher:
        """Build the global policy."""

    @abstractmethod
    def scheduler(self, deployment: Deployment, instance: InstanceSpec) -> Scheduler:
        """Build the local policy of one instance."""
