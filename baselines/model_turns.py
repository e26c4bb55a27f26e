"""Turns of whole models on one instance: one is awake, the others' requests wait."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from aegaeon.core import CostModel, Decode, Idle, Outcome, Prefill, Request, Work
from aegaeon.policy.decode import kv_need
from baselines.continuous_batching import PREFILL_TOKEN_BUDGET

_EPSILON_S = 1e-9


@dataclass(slots=True, eq=False)
class _ModelTurn:
    """Requests of one model: `running` ones have KV; `waiting` ones have none, or lost it."""

    model: str
    waiting: dict[int, Request] = field(default_factory=dict)
    running: dict[int, Request] = field(default_factory=dict)

    def interrupt(self) -> None:
        """Let the running requests wait again, before those that never ran."""
        self.waiting = self.running | self.waiting
        self.running = {}


class ModelTurns:
    """Turns in the order in which models were asked for; the model of the first turn is awake.

    The awake model is served by prefill-first continuous batching, as far as its KV fits, until it
    has no request left. With a finite `slice_s` a turn also ends after `slice_s` seconds of work if
    another model waits: its requests lose their KV, and the turn goes to the end of the queue. A
    request joins its model's turn at any place in the queue. With `in_order` it joins only if that
    turn is the last, so no request overtakes another.
    """

    def __init__(
        self,
        costs: CostModel,
        kv_bytes: float,
        slice_s: float = math.inf,
        in_order: bool = False,
    ) -> None:
        self._costs = costs
        self._kv_bytes = kv_bytes
        self._slice_s = slice_s
        self._in_order = in_order
        self._turns: deque[_ModelTurn] = deque()
        self._left = slice_s
        self._lengths: dict[int, int] = {}

    def add(self, request: Request, now: float) -> bool:
        """Queue the prompt; decoding stops at its next step if it can be let in or ends a slice."""
        turn = self._turn_to_join(request.model)
        turn.waiting[request.id] = request
        self._lengths[request.id] = request.input_tokens
        if turn is self._turns[0]:
            return bool(self._admissible(turn))
        return self._slice_s < math.inf and len(self._turns) == 2

    def next_work(self, now: float) -> Work:
        """Return a prefill of the requests that can be let in, else a decode of all that run."""
        if not self._turns:
            return Idle()
        contested = len(self._turns) > 1
        if contested and self._left <= _EPSILON_S:
            self._turns[0].interrupt()
            self._turns.rotate(-1)
            self._left = self._slice_s
        turn = self._turns[0]
        batch = self._admissible(turn)
        if batch:
            return Prefill(turn.model, batch)
        quota = self._left if contested else math.inf
        return Decode(turn.model, tuple(turn.running.values()), quota)

    def record(self, work: Work, outcome: Outcome, now: float) -> None:
        """Take the time off the slice, let prefilled requests run, forget what is finished."""
        if not isinstance(work, Prefill | Decode):
            return
        turn = self._turns[0]
        self._left -= outcome.end - outcome.start
        skipped = {request.id for request in outcome.skipped}
        for request in work.requests:
            if request.id not in skipped:
                turn.waiting.pop(request.id, None)
                turn.running[request.id] = request
                self._lengths[request.id] += outcome.steps
        for request in outcome.finished:
            del turn.running[request.id], self._lengths[request.id]
        self._end_if_done(turn)

    def cancel(self, request: Request, now: float) -> None:
        """Forget the request, and its model's turn with the last one."""
        del self._lengths[request.id]
        for turn in self._turns:
            if turn.waiting.pop(request.id, None) or turn.running.pop(request.id, None):
                self._end_if_done(turn)
                return

    def _end_if_done(self, turn: _ModelTurn) -> None:
        if turn.waiting or turn.running:
            return
        if turn is self._turns[0]:
            self._left = self._slice_s
        self._turns.remove(turn)

    def _turn_to_join(self, model: str) -> _ModelTurn:
        turns = list(self._turns)[-1:] if self._in_order else self._turns
        for turn in turns:
            if turn.model == model:
                return turn
        turn = _ModelTurn(model)
        self._turns.append(turn)
        return turn

    def _admissible(self, turn: _ModelTurn) -> tuple[Request, ...]:
        """Return the first waiting requests whose KV fits, up to the token budget of a prefill."""
        room = self._kv_bytes // self._costs[turn.model].kv_bytes_per_token
        reserved = sum([kv_need(request) for request in turn.running.values()])
        batch: list[Request] = []
        tokens = 0
        for request in turn.waiting.values():
            tokens += self._lengths[request.id]
            reserved += kv_need(request)
            if batch and tokens > PREFILL_TOKEN_BUDGET:
                break
            if (batch or turn.running) and reserved > room:
                break
            batch.append(request)
        return tuple(batch)
