"""Shortest batch first on one worker, pre-empting and recomputing (the authors' SeLLM+ worker)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from aegaeon.core import CostModel, Decode, Fail, Idle, Outcome, Prefill, Request, Work


@dataclass(slots=True)
class _Job:
    """A request and how far it is; `cached` tells whether its KV is on the device."""

    request: Request
    generated: int = 0
    cached: bool = False


@dataclass(slots=True)
class _Batch:
    model: str
    jobs: dict[int, _Job] = field(default_factory=dict)

    def unserved(self) -> tuple[Request, ...]:
        return tuple(job.request for job in self.jobs.values() if not job.cached)


class ShortestBatchFirst:
    """Batches of at most `max_batch` requests of one model, sorted anew on every arrival anywhere.

    The authors sort every worker's list whenever a request arrives in the cluster. A worker is not
    told of other workers' arrivals; it sorts at its own and every `resort_s`, their mean distance.

    The key is the prefill time while any request of the batch lacks its KV, else the decode time
    that the batch's first request has left (its output length is known: an oracle).
    """

    def __init__(
        self, costs: CostModel, max_batch: int, drop_after_s: float, resort_s: float = math.inf
    ) -> None:
        self._costs = costs
        self._max_batch = max_batch
        self._drop_after_s = drop_after_s
        self._resort_s = resort_s
        self._batches: list[_Batch] = []
        self._loaded: str | None = None
        self._sort_at = math.inf

    def add(self, request: Request, now: float) -> bool:
        """Join a batch with room or start one; the running decode may lose its turn."""
        for batch in self._batches:
            if batch.model == request.model and len(batch.jobs) < self._max_batch:
                break
        else:
            batch = _Batch(request.model)
            self._batches.append(batch)
        batch.jobs[request.id] = _Job(request)
        self._sort_at = now
        return True

    def next_work(self, now: float) -> Work:
        """Serve the first batch; a change of model drops every other request's KV."""
        if late := self._overdue(now):
            return Fail(late)
        if not self._batches:
            return Idle()
        if now >= self._sort_at:
            self._batches.sort(key=self._remaining_s)
            self._sort_at = now + self._resort_s
        batch = self._batches[0]
        if batch.model != self._loaded:
            self._loaded = batch.model
            for other in self._batches:
                for job in other.jobs.values():
                    job.cached = False
        unserved = batch.unserved()
        if unserved:
            return Prefill(batch.model, unserved)
        requests = tuple(job.request for job in batch.jobs.values())
        return Decode(batch.model, requests, min(self._patience(now), self._sort_at - now))

    def record(self, work: Work, outcome: Outcome, now: float) -> None:
        """Count tokens and forget what is finished."""
        if not isinstance(work, Prefill | Decode):
            return
        jobs = {i: job for batch in self._batches for i, job in batch.jobs.items()}
        skipped = {request.id for request in outcome.skipped}
        for request in work.requests:
            if request.id not in skipped:
                jobs[request.id].cached = True
                jobs[request.id].generated += outcome.steps
        self._forget({request.id for request in outcome.finished})

    def _forget(self, ids: set[int]) -> None:
        for batch in self._batches:
            for ident in ids & batch.jobs.keys():
                del batch.jobs[ident]
        self._batches = [batch for batch in self._batches if batch.jobs]

    def _patience(self, now: float) -> float:
        """Return the seconds until the first unserved request is late."""
        arrivals = [
            job.request.arrival
            for batch in self._batches
            for job in batch.jobs.values()
            if not job.generated
        ]
        return min(arrivals, default=math.inf) + self._drop_after_s - now

    def _overdue(self, now: float) -> tuple[Request, ...]:
        late = tuple(
            job.request
            for batch in self._batches
            for job in batch.jobs.values()
            if not job.generated and now - job.request.arrival > self._drop_after_s
        )
        if late:
            self._forget({request.id for request in late})
        return late

    def _remaining_s(self, batch: _Batch) -> float:
        cost = self._costs[batch.model]
        if unserved := batch.unserved():
            lengths = [r.input_tokens + batch.jobs[r.id].generated for r in unserved]
            return cost.prefill_s(sum(lengths), sum(n * n for n in lengths))
        job = next(iter(batch.jobs.values()))
        context = sum(j.request.input_tokens + j.generated for j in batch.jobs.values())
        step = cost.decode_step_s(len(batch.jobs), context)
        return step * (job.request.output_tokens - job.generated)
