"""A command that is told to stop unwinds its stack, so that every block cleans up behind itself."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

_STOPPING = (signal.SIGTERM, signal.SIGINT)
# What cleaning up may take; it must not be broken off by another signal meanwhile.
_CLEANING_S = 15.0


def stoppable(command: Callable[[], int]) -> int:
    """Run `command` and return its exit code, 128 + the signal's number if SIGTERM or Ctrl-C came.

    The first of these raises SystemExit in the command; others are not heard while it cleans up.
    """
    told: list[tuple[int, float]] = []

    def unwind(number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if not told or now - told[-1][1] > _CLEANING_S:
            told.append((number, now))
            sys.exit(128 + number)

    # What is ignored from the start, as under nohup, stays so.
    heard = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, unwind) for number in heard}
    try:
        code = command()
    except BaseException:
        # Ray makes other exceptions of SystemExit.
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
