"""Segments: work in progress on one device, and where it is at a time, in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from aegaeon.core import Decode, Prefill
from aegaeon.sim.track import Track

_EPSILON_S = 1e-9
UNBOUNDED = 1 << 60


def span(a: float, b: float, steps: int) -> float:
    """Return the seconds of the first `steps` steps: step j (from 0) lasts a + j * b seconds."""
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


class Part(NamedTuple):
    """Consecutive steps. The first begins at `start`; step j (from 0) lasts `step + j * slope`."""

    start: float
    step: float
    slope: float
    steps: int

    @property
    def end(self) -> float:
        """When the last step ends."""
        return self.start + span(self.step, self.slope, self.steps)


@dataclass(slots=True)
class Segment:
    """Consecutive decode steps of the requests `active`, or a prefill of them, which is one step.

    A segment has at most `most` steps. It ends with the first step that ends `budget` seconds or
    more after `start`. `pace` is the slowdown that neighbours cause. When it changes, the finished
    steps are closed as a `Part`; `start`, `most` and `budget` then describe the remaining steps.
    """

    work: Prefill | Decode
    active: list[Track]
    skipped: list[Track]
    start: float
    step: float
    slope: float
    most: int
    budget: float
    switch_s: float | None = None
    pace: float = 1.0
    steps: int = field(init=False)
    _done: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._count()

    @property
    def parts(self) -> list[Part]:
        """All steps in order; those of a part have one pace."""
        return [*self._done, Part(self.start, self.step, self.slope, self.steps)]

    @property
    def end(self) -> float:
        """When the last step ends."""
        return self.start + span(self.step, self.slope, self.steps)

    def cut(self, now: float) -> bool:
        """End decoding with the step that runs `now`; return whether that is earlier."""
        if isinstance(self.work, Prefill):
            return False
        before = self.end
        if self._done and now <= self.start:
            self.start, self.step, self.slope, self.most = self._done.pop()
        else:
            self.most = min(self.steps, steps_until(self.step, self.slope, now - self.start))
        self.steps = self.most
        return self.end < before

    def repace(self, pace: float, now: float) -> bool:
        """Change the pace, of a prefill at once and of decoding when a step ends.

        Return whether that changes the end.
        """
        if pace == self.pace:
            return False
        change, self.pace = pace / self.pace, pace
        if isinstance(self.work, Prefill):
            done = max(0.0, now - self.start)
            self.step = done + (self.step - done) * change
            return True
        done_steps = 0
        if now > self.start:
            done_steps = min(self.steps, steps_until(self.step, self.slope, now - self.start))
        if done_steps == self.steps:
            return False
        if done_steps:
            self._close(done_steps)
        self.step *= change
        self.slope *= change
        self._count()
        return True

    def _close(self, steps: int) -> None:
        part = Part(self.start, self.step, self.slope, steps)
        self._done.append(part)
        self.budget -= part.end - self.start
        self.start = part.end
        self.step += self.slope * steps
        self.most -= steps

    def _count(self) -> None:
        self.steps = min(self.most, steps_until(self.step, self.slope, self.budget))
