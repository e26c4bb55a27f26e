"""Batched decoding in rounds with quotas (paper section 4.3, algorithm 2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from aegaeon.core import CostModel, Decode, Fleet, Idle, Outcome, Request, Stage, Work
from aegaeon.policy.interface import Placement, serving
from aegaeon.policy.quota import decode_quotas

OUTPUT_RESERVE = 512
_EPSILON_S = 1e-9
# The public artifact's decode scheduler estimates a step by `predict(-1, -1, lengths)`. A batch of
# -1 takes one request's term off the estimate instead of adding the batch's.
_ARTIFACT_BATCH = -1


def kv_need(request: Request) -> int:
    """Return the tokens of KV to set aside for a request: its output length is unknown."""
    return request.input_tokens + OUTPUT_RESERVE


@dataclass(slots=True)
class Batch:
    """Requests of one model that decode together.

    Attributes:
        capacity, reserved: tokens of KV that the device holds, and that are set aside.
        context: sum of the requests' lengths so far, in tokens.
        steps: steps that the batch has made.
        behind: steps that a request took no part in, by request id.
    """

    model: str
    capacity: int
    requests: dict[int, Request] = field(default_factory=dict)
    reserved: int = 0
    context: int = 0
    steps: int = 0
    behind: dict[int, int] = field(default_factory=dict)

    def fits(self, request: Request) -> bool:
        """Tell whether the request's KV fits on the device together with the batch's."""
        return not self.requests or self.reserved + kv_need(request) <= self.capacity

    def add(self, request: Request) -> None:
        """Add a prefilled request, whose length is its prompt and its first token."""
        self.requests[request.id] = request
        self.behind[request.id] = self.steps
        self.reserved += kv_need(request)
        self.context += request.input_tokens + 1

    def advance(self, steps: int, asked: int, skipped: Sequence[Request]) -> None:
        """Count `steps` tokens for the first `asked` requests except those `skipped`.

        Later requests joined while the work was under way.
        """
        self.steps += steps
        self.context += steps * (asked - len(skipped))
        for ident in islice(self.requests, asked, None):
            self.behind[ident] += steps
        for request in skipped:
            self.behind[request.id] += steps

    def remove(self, request: Request) -> None:
        """Remove a request that is done or cancelled, at any length."""
        del self.requests[request.id]
        self.reserved -= kv_need(request)
        self.context -= request.input_tokens + 1 + self.steps - self.behind.pop(request.id)


@dataclass(frozen=True, slots=True)
class RoundOptions:
    """Algorithm 2's constants, and where the public artifact departs from the paper."""

    tbt_s: float
    qmax_s: float
    alpha_floor: float
    prefetch: bool
    batch_term: bool = True


class DecodeScheduler:
    """One decoding instance: rounds of turns, each turn one batch for its quota.

    A batch that arrives during a round joins the next round. A request that joins the current
    batch starts at the next step. The no-starvation bound: every batch gets a turn within two
    rounds, and a round lasts at most the switches of its models plus qmax_s per batch.
    """

    def __init__(self, costs: CostModel, kv_bytes: float, options: RoundOptions) -> None:
        self._costs = costs
        self._kv_bytes = kv_bytes
        self._options = options
        self._work_list: dict[str, list[Batch]] = {}
        self._round: deque[tuple[Batch, float]] = deque()
        self._turn: Batch | None = None
        self._left = 0.0
        self._hinted: str | None = None

    def add(self, request: Request, now: float) -> bool:
        """Join a batch of the model with room, or start one for the next round.

        Asks for a cut when the request joins the current batch, or when the model to prefetch
        changes.
        """
        batches = self._work_list.setdefault(request.model, [])
        for batch in batches:
            if batch.fits(request):
                batch.add(request)
                return batch is self._turn
        batch = Batch(request.model, int(self._kv_bytes // self._kv(request.model)))
        batch.add(request)
        batches.append(batch)
        return self._turn is not None and self._hint(self._turn) != self._hinted

    def next_work(self, now: float) -> Work:
        """Go on with the turn, take the next one, or open a new round."""
        if self._turn is None or self._left <= _EPSILON_S:
            self._turn = self._next_turn()
        if self._turn is None:
            return Idle()
        turn, self._hinted = self._turn, self._hint(self._turn)
        return Decode(turn.model, tuple(turn.requests.values()), self._left, self._hinted)

    def record(self, work: Work, outcome: Outcome, now: float) -> None:
        """Advance the turn's batch, drop what finished and take the time off the quota."""
        turn = self._turn
        if turn is None or not isinstance(work, Decode):
            raise RuntimeError("a decoding instance records decoding of its current turn only")
        self._left -= outcome.end - outcome.start
        turn.advance(outcome.steps, len(work.requests), outcome.skipped)
        for request in outcome.finished:
            turn.remove(request)
        if not turn.requests:
            self._discard(turn)

    def cancel(self, request: Request, now: float) -> None:
        """Take the request out of its batch; an empty batch loses its turn."""
        batches = self._work_list[request.model]
        (batch,) = [batch for batch in batches if request.id in batch.requests]
        batch.remove(request)
        if not batch.requests:
            self._discard(batch)

    def _next_turn(self) -> Batch | None:
        if not self._round:
            self._open_round()
        while self._round:
            batch, self._left = self._round.popleft()
            if batch.requests:
                return batch
        return None

    def _open_round(self) -> None:
        batches = [batch for group in self._work_list.values() for batch in group]
        steps = [self._step_s(batch) for batch in batches]
        models = self._work_list if len(self._work_list) > 1 else ()
        switch_s = sum(self._costs[model].switch.host_s for model in models)
        options = self._options
        round_ = decode_quotas(steps, switch_s, options.tbt_s, options.qmax_s, options.alpha_floor)
        self._round.extend(zip(batches, round_.quotas, strict=True))

    def _step_s(self, batch: Batch) -> float:
        size = len(batch.requests) if self._options.batch_term else _ARTIFACT_BATCH
        return self._costs[batch.model].decode.step_s(size, batch.context)

    def _hint(self, turn: Batch) -> str | None:
        if not self._options.prefetch:
            return None
        for batch, _ in self._round:
            if batch.model != turn.model and batch.requests:
                return batch.model
        return next((model for model in self._work_list if model != turn.model), None)

    def _discard(self, batch: Batch) -> None:
        if batch is self._turn:
            self._turn = None
        batches = [b for b in self._work_list[batch.model] if b is not batch]
        if batches:
            self._work_list[batch.model] = batches
        else:
            del self._work_list[batch.model]

    def _kv(self, model: str) -> int:
        return self._costs[model].kv_bytes_per_token


@dataclass(slots=True)
class _DecodeLedger:
    """What the dispatcher knows of one decoding instance: the batches of its work list."""

    instance: int
    kv_bytes: float
    size: int = 0
    batches: dict[str, list[Batch]] = field(default_factory=dict)


class DecodeDispatcher:
    """Algorithm 1's rule with KV room as the limit and the work list's size as the load."""

    def __init__(self, fleet: Fleet, costs: CostModel) -> None:
        self._ledgers = {i.id: _DecodeLedger(i.id, i.kv_bytes) for i in fleet}
        self._holders: dict[str, dict[int, None]] = {}
        self._homes: dict[int, Batch] = {}
        self._down: set[int] = set()
        self._costs = costs

    def place(self, request: Request, stage: Stage, now: float) -> int:
        """Return an instance whose batch of this model has room, else the shortest work list."""
        for instance in self._holders.get(request.model, ()):
            if instance in self._down:
                continue
            for batch in self._ledgers[instance].batches[request.model]:
                if batch.fits(request):
                    return self._join(instance, batch, request)
        ledger = min(serving(self._ledgers, self._down), key=_size)
        kv = self._costs[request.model].kv_bytes_per_token
        batch = Batch(request.model, int(ledger.kv_bytes // kv))
        ledger.size += 1
        ledger.batches.setdefault(request.model, []).append(batch)
        self._holders.setdefault(request.model, {})[ledger.instance] = None
        return self._join(ledger.instance, batch, request)

    def finished(
        self, request: Request, stage: Stage, instance: int, now: float
    ) -> Sequence[Placement]:
        """Take the request out of its batch; an empty batch leaves the list."""
        batch = self._homes.pop(request.id)
        batch.remove(request)
        if batch.requests:
            return ()
        ledger = self._ledgers[instance]
        ledger.size -= 1
        left = [b for b in ledger.batches[request.model] if b is not batch]
        ledger.batches[request.model] = left
        if not left:
            del ledger.batches[request.model]
            del self._holders[request.model][instance]
        return ()

    def available(self, instance: int, up: bool, now: float) -> Sequence[Placement]:
        """Pass over the instance while it is down; no request is ever held."""
        (self._down.discard if up else self._down.add)(instance)
        return ()

    def _join(self, instance: int, batch: Batch, request: Request) -> int:
        batch.add(request)
        self._homes[request.id] = batch
        return instance


def _size(ledger: _DecodeLedger) -> int:
    return ledger.size
