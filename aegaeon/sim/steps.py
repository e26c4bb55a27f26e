"""Closed form of a decode segment: step j (from 0) lasts a + b * j seconds."""

from __future__ import annotations

import math

_EPSILON_S = 1e-9
UNBOUNDED = 1 << 60


def span(a: float, b: float, steps: int) -> float:
    """Return the seconds of the first `steps` steps."""
    return steps * a + b * (steps * (steps - 1) // 2)


def steps_until(a: float, b: float, seconds: float) -> int:
    """Return the fewest steps, at least one, that last `seconds` or longer."""
    if seconds == math.inf:
        return UNBOUNDED
    goal = seconds - _EPSILON_S
    if goal <= a:
        return 1
    half = a - b / 2
    steps = math.ceil(2 * goal / (half + math.sqrt(half * half + 2 * b * goal)))
    while span(a, b, steps) < goal:
        steps += 1
    while steps > 1 and span(a, b, steps - 1) >= goal:
        steps -= 1
    return steps
