"""The track of each request of a live run, and the breakdown of its time (paper figure 14).

A request's time is cut at the times that instances report. Each interval between two cuts counts
for one account, so the accounts add up to the time from arrival to finish.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from aegaeon.core import CostModel, Fleet, Request
from aegaeon.live.control.messages import Transferred
from aegaeon.live.events import LiveRequest, Moved, Ran, Switched, Tokens
from aegaeon.policy.lifecycle import HELD
from aegaeon.runlog import Fault, PoolSample


class LiveError(RuntimeError):
    """A broken live run: an instance died, or requests or tokens are lost."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The seconds from arrival to finish, in six accounts; NaN if the request did not finish.

    Attributes:
        prefill_wait_s, decode_wait_s: all other time at an instance or in the dispatcher's queue,
            before and after the first token.
        prefill_s, decode_s: time inside engine steps.
        control_s: messages, and bookkeeping outside engine steps.
        data_s: waiting for copies of KV.
    """

    prefill_wait_s: float = math.nan
    prefill_s: float = math.nan
    decode_wait_s: float = math.nan
    decode_s: float = math.nan
    control_s: float = math.nan
    data_s: float = math.nan


@dataclass(slots=True)
class Stay:
    """A request's residency at one instance, in seconds on the run's clock.

    `pieces` are the work items there that served the request.
    """

    instance: int
    accepted: float
    left: float = math.inf
    pieces: list[Ran] = field(default_factory=list)


@dataclass(slots=True)
class LiveTrack:
    """One request's progress; times are seconds on the run's clock, NaN while unknown.

    Attributes:
        place: an instance's id, HELD, or GONE (policy.lifecycle).
        home: an instance on the node that has the request's KV.
        sent: when the controller sent the request.
        times: one time per token of `tokens`.
        stays: residencies, in order.
        queued: (begin, end) of each time in the dispatcher's queue.
        carried: (begin, end) of each transfer of the request's KV.
        restarts: the number of instances that died with the request.
        ended: whether the engine stopped the request before its longest output.
        failure: why the request failed; None if it did not.
    """

    live: LiveRequest
    place: int = HELD
    sent: float = math.nan
    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    stays: list[Stay] = field(default_factory=list)
    queued: list[tuple[float, float]] = field(default_factory=list)
    carried: list[tuple[float, float]] = field(default_factory=list)
    restarts: int = 0
    ended: bool = False
    home: int = HELD
    finish: float = math.nan
    failure: str | None = None

    @property
    def request(self) -> Request:
        """The part of the request that policies may know."""
        return self.live.spec

    @property
    def due(self) -> int:
        """The number of tokens to produce; the number produced so far if the engine decides."""
        return len(self.tokens) if self.live.due is None else self.live.due

    @property
    def prefill_start(self) -> float:
        """When the request's first prefill began, after KV copies; NaN if no prefill began."""
        begun = [p.start for stay in self.stays for p in stay.pieces if p.kind == "prefill"]
        return min(begun, default=math.nan)

    @property
    def complete(self) -> bool:
        """Whether the engine has made the request's last token."""
        limit = self.live.params.get("max_tokens") if self.live.due is None else self.live.due
        return self.ended or len(self.tokens) == limit

    def gain(self, event: Tokens) -> None:
        """Note tokens of one step."""
        output = event.output
        self.tokens += output.token_ids
        self.times += [event.time] * len(output.token_ids)
        # A prefill instance ends each request after one token, with the reason "length".
        self.ended = output.finished and output.finish_reason != "length"

    def queue(self, now: float) -> None:
        """Note that the dispatcher holds the request."""
        self.queued.append((now, math.inf))

    def unqueue(self, now: float) -> None:
        """Note that the dispatcher has placed the request; no effect if it was not held."""
        if self.queued and self.queued[-1][1] == math.inf:
            self.queued[-1] = (self.queued[-1][0], now)

    def arrive(self, instance: int, time: float) -> None:
        """Note that an instance has taken the request in."""
        self.depart(time)
        self.stays.append(Stay(instance, time))

    def depart(self, time: float) -> None:
        """Note that the request left its instance; no effect if it was at none."""
        if self.stays and self.stays[-1].left == math.inf:
            self.stays[-1].left = time

    def ran(self, instance: int, piece: Ran) -> None:
        """Add a work item; its report may come after the request left the instance."""
        for stay in reversed(self.stays):
            if stay.instance == instance and stay.accepted <= piece.start:
                stay.pieces.append(piece)
                return

    def breakdown(self) -> Breakdown:
        """Return the accounts of the time from arrival to finish."""
        if math.isnan(self.finish):
            return Breakdown()
        account = _TimeAccount(self.request.arrival, self.times[0] if self.times else math.inf)
        for stay in self.stays:
            # A work item ends a moment after the request has left.
            left = min(stay.left, self.finish)
            account.away(stay.accepted, self.queued, self.carried)
            for piece in stay.pieces:
                account.wait(piece.start - piece.lead_s)
                account.work(piece, min(piece.end, left))
            account.wait(left)
        account.away(self.finish, self.queued, self.carried)
        return Breakdown(**account.seconds)


Span = tuple[float, float]


class _TimeAccount:
    """Walks through a request's time once and charges each interval to an account."""

    def __init__(self, start: float, first_token: float) -> None:
        self.seconds = dict.fromkeys(Breakdown.__dataclass_fields__, 0.0)
        self._at = start
        self._first_token = first_token

    def away(self, until: float, queued: Sequence[Span], carried: Sequence[Span]) -> None:
        """Charge time at no instance.

        Time in the dispatcher's queue is a wait. Time spent moving KV between nodes counts as data.
        All other time is control.
        """
        waited, moved = self._within(until, queued), self._within(until, carried)
        self.seconds[self._wait()] += waited
        self.seconds["data_s"] += moved
        self.seconds["control_s"] += until - self._at - waited - moved
        self._at = until

    def _within(self, until: float, spans: Sequence[Span]) -> float:
        inside = [(max(self._at, a), min(until, b)) for a, b in spans]
        return sum([b - a for a, b in inside if b > a])

    def wait(self, until: float) -> None:
        """Charge time at an instance that served other requests or changed the model."""
        self.seconds[self._wait()] += until - self._at
        self._at = until

    def work(self, piece: Ran, end: float) -> None:
        """Charge a work item: steps as execution, KV copies as data, all other time as control."""
        self.seconds["prefill_s" if piece.kind == "prefill" else "decode_s"] += piece.busy_s
        self.seconds["data_s"] += piece.data_s
        self.seconds["control_s"] += end - self._at - piece.busy_s - piece.data_s
        self._at = end

    def _wait(self) -> str:
        return "prefill_wait_s" if self._at < self._first_token else "decode_wait_s"


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A finished run.

    Attributes:
        tracks: one per request, in order of id.
        switches, moves, work: (instance, event), in the order of the reports.
        costs: the cost model that the policies used, measured or estimated.
        pool: samples of the host KV pools.
        transfers: transfers of KV between nodes.
        faults: deaths of instances.
    """

    tracks: Sequence[LiveTrack]
    fleet: Fleet
    switches: Sequence[tuple[int, Switched]]
    moves: Sequence[tuple[int, Moved]]
    work: Sequence[tuple[int, Ran]]
    costs: CostModel = field(default_factory=dict)
    pool: Sequence[PoolSample] = ()
    transfers: Sequence[Transferred] = ()
    faults: Sequence[Fault] = ()
