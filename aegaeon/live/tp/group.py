"""The ranks of a tensor-parallel instance: rank 0 is this process, the others obey its calls.

One process per rank, shared by all shells. A group of one has no other process and sends nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Any, NoReturn, TypeVar

from aegaeon.errors import UserError, first_line
from aegaeon.live.memory.device import Event

T = TypeVar("T")

# A rank that failed waits so long to be told to go on: rank 0 may hang in a collective operation
# with it, which ends when the rank does.
GRACE_S = 10.0
RESUME = "resume"
STOP = "stop"


class RankError(RuntimeError):
    """A rank of a tensor-parallel instance died or failed; the instance cannot go on."""


@dataclass(frozen=True, slots=True)
class RankPlan:
    """What a rank's process needs to set its memory up; sizes are of one rank, in bytes."""

    size: int
    device: str
    shared: str
    cache_bytes: int
    slot_bytes: int
    kv_bytes: int
    weight_slots: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A rank's answer: how many of its KV moves are complete, and a value or what went wrong."""

    moved: int
    value: Any = None
    failure: str | None = None
    refused: bool = False


class _Everywhere:
    """Done when a move is complete on this rank and on all others."""

    def __init__(self, here: Event, group: RankGroup, number: int) -> None:
        self._here = here
        self._group = group
        self._number = number

    def done(self) -> bool:
        return self._here.done() and self._group.moved >= self._number

    def synchronize(self) -> None:
        self._here.synchronize()
        if not self.done():
            self._group.settle()


class RankGroup:
    """All ranks of an instance, seen from rank 0; `RankGroup()` is a group of one.

    Calls reach every rank in the order they are made, so ranks cannot get out of step. `lost` is
    told when a rank dies, from another thread: this one may hang in an operation with it.
    """

    def __init__(
        self,
        plan: RankPlan | None = None,
        lost: Callable[[RankError], None] | None = None,
    ) -> None:
        self.size = 1 if plan is None else plan.size
        # In a file, which needs no free port; ranks of one instance are on one machine.
        self.rendezvous = f"file://{plan.shared}/ranks-{uuid.uuid4().hex}" if plan else ""
        self._peers = [_Peer(rank, plan) for rank in range(1, self.size)] if plan else []
        self._lost = lost
        self._moves = 0
        self._closed = False
        for peer in self._peers:
            threading.Thread(target=self._watch, args=(peer,), daemon=True).start()

    @property
    def moved(self) -> int:
        """Of the moves so far, how many every other rank has completed, as far as is known."""
        return min([peer.moved for peer in self._peers], default=self._moves)

    def call(self, method: str, *args: object, local: Callable[[], T]) -> list[Any]:
        """Run `method` on the other ranks and `local` here; return all results, ours first.

        Raises what `local` raises, UserError if another rank refuses, RankError if one is lost.
        """
        if not self._peers:
            return [local()]
        mine = self.post(method, *args, local=local)
        return [mine, *self._replies()]

    def post(self, method: str, *args: object, local: Callable[[], T]) -> T:
        """Do the same without waiting for the others, whose results are not wanted."""
        for peer in self._peers:
            try:
                peer.send(method, args)
            except OSError as error:
                self._fail(error)
        try:
            return local()
        except Exception as error:
            if self._peers:
                self._after(error)
            raise

    def move(self, way: str, *args: object, local: Callable[[], Event]) -> Event:
        """Move KV on all ranks; return an event that is done when all are."""
        if not self._peers:
            return local()
        here = self.post("move", way, *args, local=local)
        self._moves += 1
        return _Everywhere(here, self, self._moves)

    def settle(self) -> None:
        """Wait until the other ranks have completed every move."""
        if self._peers:
            self.call("settle", local=lambda: None)

    def close(self) -> None:
        """End the other ranks' processes."""
        self._closed = True
        for peer in self._peers:
            peer.stop()
        for peer in self._peers:
            peer.join()
        # Nothing of a process that has ended is in flight.
        self._peers = []

    def _replies(self) -> list[Any]:
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
            kind = UserError if first.refused else RankError
            raise kind(first.failure if first.refused else f"{self._name(peer)}: {first.failure}")
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
        """Raise RankError that says which rank is lost, and why if it could tell."""
        for peer in self._peers:
            if (code := peer.code()) is not None:
                told = f": {peer.failure}" if peer.failure else ""
                raise RankError(f"{self._name(peer)} died (exit code {code}){told}") from error
        what = f"the ranks of a group of {self.size} lost touch: {first_line(error)}"
        raise RankError(what) from error

    def _name(self, peer: _Peer) -> str:
        return f"rank {peer.rank} of {self.size} (process {peer.process.pid})"

    def _watch(self, peer: _Peer) -> None:
        code = peer.process.wait()
        if not self._closed:
            error = RankError(f"{self._name(peer)} died (exit code {code})")
            print(f"error: {error}", file=sys.stderr, flush=True)
            if self._lost is not None:
                self._lost(error)


class _Peer:
    """One other rank: its process, and the replies that it owes."""

    def __init__(self, rank: int, plan: RankPlan) -> None:
        self.rank = rank
        self.moved = 0
        self.failure: str | None = None
        self._failed = False
        self._owed = 0
        self._pipe, theirs = Pipe()
        # Ranks of one instance are on one machine, whatever its name resolves to.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        arguments = [str(theirs.fileno()), str(os.getpid())]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aegaeon.live.tp.rank_process", *arguments],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([p for p in sys.path if p])},
        )
        theirs.close()
        self._pipe.send((rank, plan))

    def send(self, method: str, args: Sequence[object]) -> None:
        self._pipe.send((method, args))
        self._owed += 1

    def receive(self, deadline: float | None = None) -> list[Reply]:
        """Return every reply owed, oldest first; TimeoutError if they take too long."""
        replies = []
        while self._owed:
            if deadline is not None and not self._pipe.poll(max(0, deadline - time.monotonic())):
                raise TimeoutError(f"rank {self.rank} does not answer")
            reply: Reply = self._pipe.recv()
            self._owed -= 1
            self.moved = reply.moved
            if reply.failure is not None:
                self._failed, self.failure = True, self.failure or reply.failure
            replies.append(reply)
        return replies

    def resume(self) -> None:
        if self._failed:
            self._failed, self.failure = False, None
            self._pipe.send((RESUME, ()))

    def code(self) -> int | None:
        """Return the exit code of a rank that is ending or dead; hear its last words."""
        try:
            self.receive(time.monotonic() + 1.0)
            return self.process.wait(1.0)
        except (EOFError, OSError):
            return self.process.wait(GRACE_S)
        except (TimeoutError, subprocess.TimeoutExpired):
            return self.process.poll()

    def stop(self) -> None:
        try:
            self._pipe.send((STOP, ()))
        except OSError:
            self.process.kill()

    def join(self) -> None:
        try:
            self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._pipe.close()


def connection(descriptor: int) -> Connection:
    """Return a rank's end of its pipe."""
    return Connection(descriptor)
