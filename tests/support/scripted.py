"""A system with a script for the scheduler: a test writes the work items, right or wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aegaeon.core import Decode, Idle, Outcome, Request, Work
from aegaeon.policy.interface import Placement
from baselines.serverlessllm.ours import ServerlessLLM


@dataclass
class _Reader:
    """A scheduler with a list of work items; a decode is repeated until its requests finish."""

    script: list[Work]
    finished: set[int] = field(default_factory=set)

    def add(self, request: Request, now: float) -> bool:
        return False

    def next_work(self, now: float) -> Work:
        while self.script:
            work = self.script[0]
            if not isinstance(work, Decode):
                return self.script.pop(0)
            if left := tuple(r for r in work.requests if r.id not in self.finished):
                return replace(work, requests=left)
            self.script.pop(0)
        return Idle()

    def record(self, work: Work, outcome: Outcome, now: float) -> None:
        self.finished |= {r.id for r in outcome.finished}


class _Anywhere:
    """A dispatcher that places all requests on instance 0; `again` has further placements."""

    def __init__(self, again: Sequence[Placement] = ()):
        self.again = again

    def place(self, request, stage, now):
        return 0

    def finished(self, request, stage, instance, now):
        return self.again


@dataclass
class Scripted(ServerlessLLM):
    script: list[Work] = field(default_factory=list)
    again: Sequence[Placement] = ()

    def dispatcher(self, deployment, fleet):
        return _Anywhere(self.again)

    def scheduler(self, deployment, instance):
        return _Reader(list(self.script))
