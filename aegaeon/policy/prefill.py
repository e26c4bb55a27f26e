"""Grouped prefill scheduling (paper section 4.2, algorithm 1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from aegaeon.core import CostModel, Fleet, Idle, Outcome, Prefill, Request, Stage, Work
from aegaeon.policy.interface import Placement, serving

MAX_GROUP_SIZE = 8


@dataclass(slots=True)
class Group:
    """Requests of one model that run in sequence; `size` counts all that ever joined."""

    model: str
    waiting: deque[Request] = field(default_factory=deque)
    size: int = 0


class GroupQueue:
    """The job queue of one prefill instance: groups in the order of their first request.

    With `accumulative` (the paper) the size of a group never shrinks, which keeps the order close
    to first-come-first-served. The public artifact counts waiting requests only.
    """

    def __init__(self, max_group: int = MAX_GROUP_SIZE, accumulative: bool = True) -> None:
        self.groups: deque[Group] = deque()
        self._open: dict[str, Group] = {}
        self._max_group = max_group
        self._accumulative = accumulative

    def joins(self, model: str) -> bool:
        """Tell whether a request of `model` would join a group that is here."""
        group = self._open.get(model)
        if group is None:
            return False
        size = group.size if self._accumulative else len(group.waiting)
        return size < self._max_group

    def add(self, request: Request) -> bool:
        """Add a request to its model's open group or to a new one; True if the group is new."""
        new = not self.joins(request.model)
        if new:
            self._open[request.model] = Group(request.model)
            self.groups.append(self._open[request.model])
        group = self._open[request.model]
        group.waiting.append(request)
        group.size += 1
        return new

    def remove(self, request: Request) -> None:
        """Take a waiting request out as if it had never joined."""
        (group,) = [g for g in self.groups if g.model == request.model and request in g.waiting]
        group.waiting.remove(request)
        group.size -= 1
        if not group.size:
            self.groups.remove(group)
            self._close(group)

    def drop_empty_front(self) -> None:
        """Close the front group if nothing waits in it."""
        while self.groups and not self.groups[0].waiting:
            self._close(self.groups.popleft())

    def _close(self, group: Group) -> None:
        if self._open.get(group.model) is group:
            del self._open[group.model]


class PrefillScheduler:
    """One prefill instance: one request at a time from the front group.

    With `prefetch`, the model of the next group is prefetched meanwhile.
    """

    def __init__(self, max_group: int, accumulative: bool, prefetch: bool) -> None:
        self._queue = GroupQueue(max_group, accumulative)
        self._prefetch = prefetch

    def add(self, request: Request, now: float) -> bool:
        """Queue the request; a running prefill is never cut."""
        self._queue.add(request)
        return False

    def next_work(self, now: float) -> Work:
        """Take one request of the front group (the paper's batch size of one)."""
        self._queue.drop_empty_front()
        if not self._queue.groups:
            return Idle()
        group = self._queue.groups[0]
        return Prefill(group.model, (group.waiting.popleft(),), self._hint())

    def record(self, work: Work, outcome: Outcome, now: float) -> None:
        """Learn nothing: an empty front group stays open until the next choice."""

    def cancel(self, request: Request, now: float) -> None:
        """Take the request out of its group."""
        self._queue.remove(request)

    def _hint(self) -> str | None:
        groups = self._queue.groups
        if not self._prefetch or len(groups) < 2 or groups[1].model == groups[0].model:
            return None
        return groups[1].model


@dataclass(slots=True)
class _Count:
    """A group as the dispatcher sees it: requests that joined, and that have not finished."""

    joined: int = 0
    left: int = 0


@dataclass(slots=True)
class _PrefillLedger:
    """What the dispatcher knows of one prefill instance; the last group of a model is open."""

    instance: int
    load: float = 0.0
    groups: dict[str, deque[_Count]] = field(default_factory=dict)


class PrefillDispatcher:
    """Algorithm 1: an open group of the model on any instance, else the least loaded instance.

    The load is the estimated time of every group, execution and switch together. With
    `count_requests` it is the number of queued requests, as in the public artifact.
    """

    def __init__(
        self,
        fleet: Fleet,
        costs: CostModel,
        max_group: int = MAX_GROUP_SIZE,
        accumulative: bool = True,
        count_requests: bool = False,
    ) -> None:
        self._ledgers = {i.id: _PrefillLedger(i.id) for i in fleet}
        self._holders: dict[str, dict[int, None]] = {}
        self._down: set[int] = set()
        self._costs = costs
        self._max_group = max_group
        self._accumulative = accumulative
        self._count_requests = count_requests

    def place(self, request: Request, stage: Stage, now: float) -> int:
        """Return the instance for this request's prefill; never holds a request."""
        ledger = self._open_ledger(request.model)
        if ledger is None:
            ledger = min(serving(self._ledgers, self._down), key=_load)
            ledger.groups.setdefault(request.model, deque()).append(_Count())
            self._holders.setdefault(request.model, {})[ledger.instance] = None
            ledger.load += self._switch(request)
        group = ledger.groups[request.model][-1]
        group.joined += 1
        group.left += 1
        ledger.load += self._execution(request)
        return ledger.instance

    def finished(
        self, request: Request, stage: Stage, instance: int, now: float
    ) -> Sequence[Placement]:
        """Take the request off the load, and with the last one of a group the group's switch."""
        ledger = self._ledgers[instance]
        ledger.load -= self._execution(request)
        groups = ledger.groups[request.model]
        groups[0].left -= 1
        if groups[0].left == 0:
            groups.popleft()
            ledger.load -= self._switch(request)
            if not groups:
                del ledger.groups[request.model]
                del self._holders[request.model][instance]
            if not ledger.groups:
                # Rounding residues must not choose between idle instances.
                ledger.load = 0.0
        return ()

    def available(self, instance: int, up: bool, now: float) -> Sequence[Placement]:
        """Pass over the instance while it is down; no request is ever held."""
        (self._down.discard if up else self._down.add)(instance)
        return ()

    def _open_ledger(self, model: str) -> _PrefillLedger | None:
        for instance in self._holders.get(model, ()):
            if instance in self._down:
                continue
            group = self._ledgers[instance].groups[model][-1]
            if (group.joined if self._accumulative else group.left) < self._max_group:
                return self._ledgers[instance]
        return None

    def _switch(self, request: Request) -> float:
        return 0.0 if self._count_requests else self._costs[request.model].switch.host_s

    def _execution(self, request: Request) -> float:
        if self._count_requests:
            return 1.0
        tokens = request.input_tokens
        return self._costs[request.model].prefill.seconds(tokens, tokens * tokens)


def _load(ledger: _PrefillLedger) -> float:
    return ledger.load
