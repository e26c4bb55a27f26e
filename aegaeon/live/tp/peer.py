"""One other rank of an instance, as rank 0 sees it: its process, its pipe, the replies it owes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from multiprocessing.connection import Connection, Pipe

from aegaeon.live.tp.messages import GRACE_S, Call, RankPlan, Reply, Resume, Setup, Stop

_LAST_REPLY_S = 1.0


class Peer:
    """Rank `rank` in a process of its own; `moved` counts its KV moves known to be complete.

    `failure` is the text of the first call that it failed and was not told to resume from.
    """

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
        self._pipe.send(Setup(rank, plan))

    def send(self, call: Call) -> None:
        """Send a call; raises OSError if the process is dead."""
        self._pipe.send(call)
        self._owed += 1

    def receive(self, deadline: float | None = None) -> list[Reply]:
        """Wait for every reply owed and return them, oldest first.

        Raises TimeoutError at `deadline` (of the monotonic clock), EOFError or OSError if the
        process is dead.
        """
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
        """Let a rank that failed go on."""
        if self._failed:
            self._failed, self.failure = False, None
            self._pipe.send(Resume())

    def code(self) -> int | None:
        """Return the exit code of a process that is ending or dead, None for one that runs.

        Replies that the process sent before its end are received.
        """
        try:
            self.receive(time.monotonic() + _LAST_REPLY_S)
            return self.process.wait(_LAST_REPLY_S)
        except (EOFError, OSError):
            return self.process.wait(GRACE_S)
        except (TimeoutError, subprocess.TimeoutExpired):
            return self.process.poll()

    def stop(self) -> None:
        """Tell the process to end."""
        try:
            self._pipe.send(Stop())
        except OSError:
            self.process.kill()

    def join(self) -> None:
        """Wait for the process's end, and kill it after GRACE_S seconds."""
        try:
            self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._pipe.close()


def connection(descriptor: int) -> Connection:
    """Return a rank's end of its pipe."""
    return Connection(descriptor)
