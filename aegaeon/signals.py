"""A command that SIGTERM or Ctrl-C stops unwinds its stack, so every block cleans up."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

_STOPPING = (signal.SIGTERM, signal.SIGINT)
# Seconds for cleaning up, in which another signal must not interrupt.
_CLEANING_S = 15.0


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
