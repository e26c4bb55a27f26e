"""Adaptive batch scheduling of one unit (MuxServe's ADBS, its algorithm 3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from aegaeon.core import Decode, Idle, Outcome, Prefill, Request, Work
from baselines.muxserve.quotas import KvQuotas

PREFILL_SHARE = 0.6
PREFILL_TOKEN_BUDGET = 4096
_LEAST_SHARE = 0.01
_EPSILON = 1e-9


@dataclass(slots=True)
class _Lane:
    """Requests of one model; `share` is that of its running decode, None if none runs."""

    waiting: deque[Request] = field(default_factory=deque)
    running: dict[int, Request] = field(default_factory=dict)
    share: float | None = None


class Adbs:
    """Decodes of all models, and one prefill at a time: of the next model that its quota admits.

    A prefill takes `PREFILL_SHARE` of the SMs, or all SMs while no model decodes. Every model with
    requests to decode gets an equal part of the rest. MuxServe gives the SMs to the decode steps in
    turn; equal parts are the limit of many short turns.
    """

    def __init__(
        self, kv_per_token: Mapping[str, int], quotas: KvQuotas, mean_output_tokens: float
    ) -> None:
        self._lanes = {model: _Lane() for model in kv_per_token}
        self._kv_per_token = kv_per_token
        self._quotas = quotas
        self._mean_output = mean_output_tokens
        self._order = deque(kv_per_token)
        self._prefill: Prefill | None = None
        self._stalled = False

    def add(self, request: Request, now: float) -> bool:
        """Queue the prompt; decodes make room for its prefill unless another one runs."""
        self._lanes[request.model].waiting.append(request)
        self._adapt(now)
        return self._prefill is None

    def next_work(self, now: float) -> Work:
        """Return a prefill if one may start, else a decode of a model that has none running."""
        lanes = self._lanes
        decoding = [model for model, lane in lanes.items() if lane.running]
        free = 1.0 - sum([lane.share for lane in lanes.values() if lane.share is not None])
        candidate = None
        if self._prefill is None:
            candidate = self._candidate(bool(decoding))
            share = PREFILL_SHARE if decoding else 1.0
            if candidate is not None and free >= share - _EPSILON:
                self._prefill = Prefill(candidate, self._admit(candidate, now), share=share)
                return self._prefill
        else:
            free -= self._prefill.share
        busy = candidate is not None or self._prefill is not None
        for model in decoding:
            if lanes[model].share is None:
                part = (1.0 - PREFILL_SHARE if busy else 1.0) / len(decoding)
                share = part if free >= part - _EPSILON else free
                if share >= _LEAST_SHARE:
                    lanes[model].share = share
                    batch = tuple(lanes[model].running.values())
                    return Decode(model, batch, float("inf"), share=share)
        return Idle()

    def record(self, work: Work, outcome: Outcome, now: float) -> None:
        """Let prefilled requests decode, drop finished ones and queue those that lost their KV."""
        if not isinstance(work, Prefill | Decode):
            return
        lane = self._lanes[work.model]
        if isinstance(work, Prefill):
            self._prefill = None
            lane.running.update((r.id, r) for r in work.requests)
        else:
            lane.share = None
        for request in (*outcome.finished, *outcome.skipped):
            del lane.running[request.id]
            self._quotas.release(work.model, self._need(request), now)
        lane.waiting.extendleft(sorted(outcome.skipped, key=_age, reverse=True))
        self._stalled = (self._stalled or bool(outcome.skipped)) and not outcome.finished
        if outcome.finished:
            self._adapt(now)

    def cancel(self, request: Request, now: float) -> None:
        """Forget the request; if it ran, its KV makes room for others."""
        lane = self._lanes[request.model]
        if lane.running.pop(request.id, None) is None:
            lane.waiting.remove(request)
            return
        self._quotas.release(request.model, self._need(request), now)
        self._stalled = False
        self._adapt(now)

    def _candidate(self, decoding: bool) -> str | None:
        """Return the next model in turn with a prompt to prefill; none while KV has run out."""
        if self._stalled and decoding:
            return None
        for model in self._order:
            waiting = self._lanes[model].waiting
            if waiting and self._quotas.admits(model, self._need(waiting[0])):
                return model
        return None

    def _admit(self, model: str, now: float) -> tuple[Request, ...]:
        """Take prompts while the token budget and the quota admit them; pass the turn on."""
        self._order.rotate(-1 - self._order.index(model))
        waiting = self._lanes[model].waiting
        batch: list[Request] = []
        tokens = 0
        while waiting and self._quotas.admits(model, self._need(waiting[0])):
            tokens += waiting[0].input_tokens
            if batch and tokens > PREFILL_TOKEN_BUDGET:
                break
            batch.append(waiting.popleft())
            self._quotas.reserve(model, self._need(batch[-1]), now)
        return tuple(batch)

    def _need(self, request: Request) -> float:
        return (request.input_tokens + self._mean_output) * self._kv_per_token[request.model]

    def _adapt(self, now: float) -> None:
        waiting = {model: len(lane.waiting) for model, lane in self._lanes.items()}
        self._quotas.adapt(waiting, now)


def _age(request: Request) -> tuple[float, int]:
    return request.arrival, request.id
