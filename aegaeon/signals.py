"""How a command ends: a signal unwinds its stack, and its worker processes end with it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

_STOPPING = (signal.SIGTERM, signal.SIGINT)
# Seconds for cleaning up, in which another signal must not interrupt.
_CLEANING_S = 15.0
_LOOK_S = 0.5


def stoppable(command: Callable[[], int]) -> int:
    """Run `command` and return its exit code; after SIGTERM or Ctrl-C, 128 + the signal's number.

    The first signal raises SystemExit in the command. Further signals are ignored for _CLEANING_S
    seconds, while the command cleans up.
    """
    told: list[tuple[int, float]] = []

    def unwind(number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if not told or now - told[-1][1] > _CLEANING_S:
            told.append((number, now))
            sys.exit(128 + number)

    # A signal that is ignored from the start, as under nohup, stays ignored.
    heard = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, unwind) for number in heard}
    try:
        code = command()
    except BaseException:
        # Ray turns SystemExit into other exceptions.
        if not told:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not told:
        return code
    first = told[0][0]
    print(f"stopped by {signal.Signals(first).name}", file=sys.stderr)
    return 128 + first


def end_with(owner: int) -> threading.Thread:
    """End this process within seconds of the end of process `owner`, which started it.

    A killed owner can tell no one. SIGTERM comes first, so that live runs clean up; SIGKILL follows
    after _CLEANING_S seconds. Returns the thread that watches.
    """
    watch = threading.Thread(target=_watch, args=(owner, os.getppid()), daemon=True)
    watch.start()
    return watch


def _watch(owner: int, parent: int) -> None:
    # The owner may be dead already, or a zombie: then this process has another parent.
    while os.getppid() == parent and _exists(owner):
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_CLEANING_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
