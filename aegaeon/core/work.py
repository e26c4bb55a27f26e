"""Requests, arrivals, and the work that a scheduler gives to a backend.

Times are seconds on one clock that starts at 0 when the run starts; lengths are tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from aegaeon.core.specs import Slo


@dataclass(frozen=True, slots=True)
class Request:
    """One accepted request, as a policy sees it: the number of tokens it will produce is unknown.

    Attributes:
        slo: the request's own targets; None for those of the run.
        priority: higher goes first, for policies that look at it.
    """

    id: int
    model: str
    arrival: float
    input_tokens: int
    slo: Slo | None = field(default=None, kw_only=True)
    priority: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if self.arrival < 0 or self.input_tokens < 1:
            raise ValueError(
                f"request {self.id}: needs arrival >= 0 and input_tokens >= 1, got {self}"
            )


@dataclass(frozen=True, slots=True)
class Arrival:
    """One entry of a workload: a request, and how many tokens it will produce.

    Only a backend reads `output_tokens`. A system that is an oracle is given them as
    `Deployment.lengths`.
    """

    request: Request
    output_tokens: int

    def __post_init__(self) -> None:
        if self.output_tokens < 1:
            raise ValueError(f"request {self.request.id}: needs output_tokens >= 1, got {self}")


@dataclass(frozen=True, slots=True)
class Prefill:
    """Run the prompts of `requests` in one batch; each gives its first token at the end.

    A request whose KV was dropped is prefilled again, prompt and generated tokens alike, and gives
    its next token.
    """

    model: str
    requests: tuple[Request, ...]
    prefetch: str | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Decode:
    """Decode `requests` together for `quota` seconds of decoding, switch time not counted.

    The backend stops earlier, at a step's end, when a request finishes or the scheduler's `add`
    asked for a cut. A step that has begun is completed; at least one step is done.
    """

    model: str
    requests: tuple[Request, ...]
    quota: float
    prefetch: str | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up on requests, for systems that drop late ones; all their tokens count as late."""

    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to do before `until` unless a request is added."""

    until: float = float("inf")


Work = Prefill | Decode | Fail | Idle


class Outcome(NamedTuple):
    """What a backend did of a work item.

    Attributes:
        start: when the first step began, after the switch and the first KV block's arrival.
        end: when the last step ended.
        steps: tokens each request that ran gained; a prefill counts as one step.
        finished: requests that produced their last token.
        skipped: requests that did not run because their KV did not fit with the others'.
        switch_s: seconds the change of model took; None when there was none.
        busy_s: seconds inside steps, without waits and copies.
    """

    start: float
    end: float
    steps: int
    finished: tuple[Request, ...] = ()
    skipped: tuple[Request, ...] = ()
    switch_s: float | None = None
    busy_s: float = 0.0

    @property
    def step_s(self) -> float:
        """Mean seconds of one step; 0 if there was none."""
        return self.busy_s / self.steps if self.steps else 0.0
