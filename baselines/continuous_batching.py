"""Continuous batching on one instance: waiting prompts first, then everybody decodes together."""

from __future__ import annotations

import math
from collections import deque

from aegaeon.core import Decode, Fail, Idle, Outcome, Prefill, Request, Work

PREFILL_TOKEN_BUDGET = 8192


class ContinuousBatching:
    """Prefill-first continuous batching, one model at a time, in order of arrival.

    A request of another model than the running one waits, with all behind it, until the running
    ones are done. With `drop_after_s`, a request that waited longer is failed.
    """

    def __init__(
        self, token_budget: int = PREFILL_TOKEN_BUDGET, drop_after_s: float = math.inf
    ) -> None:
        self._budget = token_budget
        self._drop_after_s = drop_after_s
        self._waiting: deque[Request] = deque()
        self._running: dict[int, Request] = {}

    def add(self, request: Request, now: float) -> bool:
        """Queue the prompt; decoding stops at its next step if it can be let in or may be late."""
        self._waiting.append(request)
        return self._admissible() or self._drop_after_s < math.inf

    def next_work(self, now: float) -> Work:
        """Return a prefill of as many prompts as the token budget admits, else a decode."""
        if late := self._overdue(now):
            return Fail(late)
        if self._admissible():
            batch = self._admit()
            return Prefill(batch[0].model, batch)
        if self._running:
            requests = tuple(self._running.values())
            return Decode(requests[0].model, requests, self._patience(now))
        return Idle()

    def record(self, work: Work, outcome: Outcome, now: float) -> None:
        """Start decoding what was prefilled, put back what was not, forget what is finished."""
        if isinstance(work, Prefill):
            self._running.update((r.id, r) for r in work.requests if r not in outcome.skipped)
            self._waiting.extendleft(reversed(outcome.skipped))
        for request in outcome.finished:
            del self._running[request.id]

    def cancel(self, request: Request, now: float) -> None:
        """Forget the request, which waits or runs."""
        if self._running.pop(request.id, None) is None:
            self._waiting.remove(request)

    def _admissible(self) -> bool:
        if not self._waiting or not self._running:
            return bool(self._waiting)
        return self._waiting[0].model == next(iter(self._running.values())).model

    def _patience(self, now: float) -> float:
        """Return the seconds until the first waiting request is late."""
        return self._waiting[0].arrival + self._drop_after_s - now if self._waiting else math.inf

    def _overdue(self, now: float) -> tuple[Request, ...]:
        late = []
        while self._waiting and now - self._waiting[0].arrival > self._drop_after_s:
            late.append(self._waiting.popleft())
        return tuple(late)

    def _admit(self) -> tuple[Request, ...]:
        batch = [self._waiting.popleft()]
        tokens = batch[0].input_tokens
        while self._waiting and self._waiting[0].model == batch[0].model:
            tokens += self._waiting[0].input_tokens
            if tokens > self._budget:
                break
            batch.append(self._waiting.popleft())
        return tuple(batch)
