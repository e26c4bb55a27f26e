"""What became of each request of a live run, and where its time went (paper figure 14).

A request's time is cut at the moments that instances report: between any two of them it is in one
account, so that the accounts add up to the time from arrival to finish.
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
    """A live run that broke: an instance died, or requests or tokens got lost."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Seconds from arrival to finish, by what they went to; NaN if the request did not finish.

    Execution is the time inside engine steps. `data_s` is spent waiting for KV to be copied,
    `control_s` on messages and our own bookkeeping; the waits are the rest of the time at an
    instance or in the dispatcher's queue, before and after the first token.
    """

    prefill_wait_s: float = math.nan
    prefill_s: float = math.nan
    decode_wait_s: float = math.nan
    decode_s: float = math.nan
    control_s: float = math.nan
    data_s: float = math.nan


@dataclass(slots=True)
class Stay:
    """A request's time at one instance, and the pieces of work there that it was part of."""

    instance: int
    accepted: float
    left: float = math.inf
    pieces: list[Ran] = field(default_factory=list)


@dataclass(slots=True)
class LiveTrack:
    """One request's progress; times are seconds on the run's clock, NaN before they are known.

    `place` is an instance's id, HELD, or GONE (policy.lifecycle); `home` is the instance on whose
    node its KV lies. `sent` is when the request went
    out, `times` has each token's. `failure` is why it failed. `queued` has when the dispatcher
    began to keep it for later, and until when; `carried` when its KV went to another node.
    `restarts` counts the instances that died with it. `ended` says that the engine stopped it.
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
        """What the policies know of it."""
        return self.live.spec

    @property
    def due(self) -> int:
        """How many tokens it must produce, or has produced where the engine says."""
        return len(self.tokens) if self.live.due is None else self.live.due

    @property
    def prefill_start(self) -> float:
        """When its first prefill began, its KV being there; NaN if none did."""
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
        # A prefill instance ends each request after one token, for the length's sake.
        self.ended = output.finished and output.finish_reason != "length"

    def queue(self, now: float) -> None:
        """Note that the dispatcher keeps the request for later."""
        self.queued.append((now, math.inf))

    def unqueue(self, now: float) -> None:
        """Note that the dispatcher has placed the request; does nothing if it never kept it."""
        if self.queued and self.queued[-1][1] == math.inf:
            self.queued[-1] = (self.queued[-1][0], now)

    def arrive(self, instance: int, time: float) -> None:
        """Note that an instance has taken the request in."""
        self.depart(time)
        self.stays.append(Stay(instance, time))

    def depart(self, time: float) -> None:
        """Note that the request left where it was, if it was at an instance."""
        if self.stays and self.stays[-1].left == math.inf:
            self.stays[-1].left = time

    def ran(self, instance: int, piece: Ran) -> None:
        """Count a piece of work, which may be told after the request left the instance."""
        for stay in reversed(self.stays):
            if stay.instance == instance and stay.accepted <= piece.start:
                stay.pieces.append(piece)
                return

    def breakdown(self) -> Breakdown:
        """Return where the time from arrival to finish went."""
        if math.isnan(self.finish):
            return Breakdown()
        account = _Account(self.request.arrival, self.times[0] if self.times else math.inf)
        for stay in self.stays:
            # A piece of work goes on, a moment, when the request has left.
            left = min(stay.left, self.finish)
            account.away(stay.accepted, self.queued, self.carried)
            for piece in stay.pieces:
                account.wait(piece.start - piece.lead_s)
                account.work(piece, min(piece.end, left))
            account.wait(left)
        account.away(self.finish, self.queued, self.carried)
        return Breakdown(**account.seconds)


Span = tuple[float, float]


class _Account:
    """Walks through a request's time once and charges every stretch of it."""

    def __init__(self, start: float, first_token: float) -> None:
        self.seconds = dict.fromkeys(Breakdown.__dataclass_fields__, 0.0)
        self._at = start
        self._first_token = first_token

    def away(self, until: float, queued: Sequence[Span], carried: Sequence[Span]) -> None:
        """Charge time at no instance: the dispatcher's queue is a wait, the rest is control.

        So is what remains of the time that KV took to another node, which is data.
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
        """Charge time at an instance that did something else, or changed the model."""
        self.seconds[self._wait()] += until - self._at
        self._at = until

    def work(self, piece: Ran, end: float) -> None:
        """Charge a piece of work: steps, KV, and what is left of it."""
        self.seconds["prefill_s" if piece.kind == "prefill" else "decode_s"] += piece.busy_s
        self.seconds["data_s"] += piece.data_s
        self.seconds["control_s"] += end - self._at - piece.busy_s - piece.data_s
        self._at = end

    def _wait(self) -> str:
        return "prefill_wait_s" if self._at < self._first_token else "decode_wait_s"


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A finished run: tracks in order of id; switches, KV moves and work with their instance.

    `costs` is what the policies were told, measured or estimated; `pool` samples the host KV pools.
    `transfers` moved KV between nodes, `faults` are instances that died.
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
