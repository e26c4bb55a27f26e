"""The ranks of a tensor-parallel instance: rank 0 is this process, the others obey its calls.

There is one process per rank, which all model engines share. A group of one has no other process
and sends nothing.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from aegaeon.errors import UserError, first_line
from aegaeon.live.memory.device import StreamEvent
from aegaeon.live.tp.messages import GRACE_S, Call, Move, RankPlan, Settle
from aegaeon.live.tp.peer import Peer

C = TypeVar("C", bound=Call)
M = TypeVar("M", bound=Move)
T = TypeVar("T")


class RankError(RuntimeError):
    """A rank of a tensor-parallel instance died or failed; the instance cannot go on."""


class RankGroup:
    """All ranks of an instance, seen from rank 0; `RankGroup()` is a group of one.

    Every rank carries out the calls in the order in which they are made, so ranks stay in step.
    `lost` gets the error of a rank that died, in another thread: this thread may hang in a
    collective operation with that rank.
    """

    def __init__(
        self,
        plan: RankPlan | None = None,
        lost: Callable[[RankError], None] | None = None,
    ) -> None:
        self.size = 1 if plan is None else plan.size
        # In a file, which needs no free port; ranks of one instance are on one machine.
        self.rendezvous = f"file://{plan.shared}/ranks-{uuid.uuid4().hex}" if plan else ""
        self._peers = [Peer(rank, plan) for rank in range(1, self.size)] if plan else []
        self._lost = lost
        self._moves = 0
        self._closed = False
        for peer in self._peers:
            threading.Thread(target=self._watch, args=(peer,), daemon=True).start()

    @property
    def moved(self) -> int:
        """How many of the moves every other rank is known to have completed."""
        return min([peer.moved for peer in self._peers], default=self._moves)

    def call(self, call: C, here: Callable[[C], T]) -> list[T]:
        """Let all ranks carry out `call`, this one by `here`; return all results, ours first.

        Raises what `here` raises, UserError if another rank refuses, RankError if one is lost.
        """
        mine = self.post(call, here)
        return [mine, *self._replies()]

    def post(self, call: C, here: Callable[[C], T]) -> T:
        """Do as `call` does without waiting for the others; return our result."""
        for peer in self._peers:
            try:
                peer.send(call)
            except OSError as error:
                self._fail(error)
        try:
            return here(call)
        except Exception as error:
            if self._peers:
                self._after(error)
            raise

    def move(self, move: M, here: Callable[[M], StreamEvent]) -> StreamEvent:
        """Move KV on all ranks; return an event that is done when the move is, on all of them."""
        event = self.post(move, here)
        if not self._peers:
            return event
        self._moves += 1
        return _OnAllRanks(event, self, self._moves)

    def settle(self) -> None:
        """Wait until the other ranks have completed every move."""
        if self._peers:
            self.call(Settle(), lambda _: None)

    def close(self) -> None:
        """End the other ranks' processes."""
        self._closed = True
        for peer in self._peers:
            peer.stop()
        for peer in self._peers:
            peer.join()
        # A process that has ended has no copy in flight.
        self._peers = []

    def _replies(self) -> list[Any]:
        """Return the other ranks' values for the last call, or raise what went wrong."""
        values, failures = [], []
        for peer in self._peers:
            try:
                replies = peer.receive()
            except (EOFError, OSError) as error:
                self._fail(error)
            values.append(replies[-1].value)
            failures += [(peer, reply) for reply in replies if reply.failure is not None]
        if failures:
            self._resume()
            peer, first = failures[0]
            if first.refused:
                raise UserError(first.failure)
            raise RankError(f"{self._name(peer)}: {first.failure}")
        return values

    def _after(self, error: Exception) -> None:
        """Bring the others back in step after a failure here, or raise RankError."""
        deadline = time.monotonic() + GRACE_S
        for peer in self._peers:
            try:
                peer.receive(deadline)
            except (EOFError, OSError, TimeoutError):
                self._fail(error)
        self._resume()

    def _resume(self) -> None:
        for peer in self._peers:
            peer.resume()

    def _fail(self, error: Exception) -> NoReturn:
        """Raise RankError that says which rank is lost, and why if the rank reported it."""
        for peer in self._peers:
            if (code := peer.code()) is not None:
                reported = f": {peer.failure}" if peer.failure else ""
                raise RankError(f"{self._name(peer)} died (exit code {code}){reported}") from error
        what = f"the ranks of a group of {self.size} lost touch: {first_line(error)}"
        raise RankError(what) from error

    def _name(self, peer: Peer) -> str:
        return f"rank {peer.rank} of {self.size} (process {peer.process.pid})"

    def _watch(self, peer: Peer) -> None:
        code = peer.process.wait()
        if not self._closed:
            error = RankError(f"{self._name(peer)} died (exit code {code})")
            print(f"error: {error}", file=sys.stderr, flush=True)
            if self._lost is not None:
                self._lost(error)


class _OnAllRanks:
    """Done when move `number` is complete on this rank and on all others."""

    def __init__(self, here: StreamEvent, group: RankGroup, number: int) -> None:
        self._here = here
        self._group = group
        self._number = number

    def done(self) -> bool:
        return self._here.done() and self._group.moved >= self._number

    def synchronize(self) -> None:
        self._here.synchronize()
        if not self.done():
            self._group.settle()
