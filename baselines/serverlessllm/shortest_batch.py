"""Shortest batch first on one worker, pre-empting and recomputing (the authors' SeLLM+ worker)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from aegaeon.core import CostModel, Decode, Fail, Idle, ModelCost, Outcome, Prefill, Request, Work


@dataclass(slots=True)
class _Batch:
    """Requests of one model; `remaining_s` is the sort key, None when it is out of date."""

    model: str
    jobs: dict[int, _Job] = field(default_factory=dict)
    remaining_s: float | None = None

    def unserved(self) -> tuple[Request, ...]:
        return tuple([job.request for job in self.jobs.values() if not job.cached])


@dataclass(slots=True)
class _Job:
    """A request, its batch and how far it is; `cached`: its KV is on the device."""

    request: Request
    batch: _Batch
    generated: int = 0
    cached: bool = False

    @property
    def length(self) -> int:
        return self.request.input_tokens + self.generated


@dataclass(frozen=True, slots=True)
class ShortestBatchOptions:
    """The cap on a batch, and seconds: to drop a request, between sorts, to the traffic's end."""

    max_batch: int
    drop_after_s: float
    resort_s: float = math.inf
    traffic_gap_s: float = math.inf


class ShortestBatchFirst:
    """Batches of at most `max_batch` requests of one model, sorted at every arrival.

    The authors sort the list of every worker whenever a request arrives in the cluster. Here a
    worker does not hear of arrivals at other workers. It sorts at its own arrivals, and every
    `resort_s` (the mean time between arrivals in the cluster) until `traffic_gap_s` after its last
    one, when the traffic has most likely ended.

    The key is the prefill time while any request of the batch lacks its KV, else the decode time
    that the batch's first request has left. `lengths` has the output length of every request: the
    system is an oracle.
    """

    def __init__(
        self, costs: CostModel, options: ShortestBatchOptions, lengths: Mapping[int, int]
    ) -> None:
        self._costs = costs
        self._options = options
        self._lengths = lengths
        self._last_arrival = -math.inf
        self._batches: list[_Batch] = []
        self._jobs: dict[int, _Job] = {}
        self._without_token: dict[int, _Job] = {}
        self._loaded: str | None = None
        self._sort_at = math.inf

    def add(self, request: Request, now: float) -> bool:
        """Join a batch with room or start one; the running decode may lose its turn."""
        for batch in self._batches:
            if batch.model == request.model and len(batch.jobs) < self._options.max_batch:
                break
        else:
            batch = _Batch(request.model)
            self._batches.append(batch)
        job = _Job(request, batch)
        batch.jobs[request.id] = self._jobs[request.id] = self._without_token[request.id] = job
        batch.remaining_s = None
        self._sort_at = self._last_arrival = now
        return True

    def next_work(self, now: float) -> Work:
        """Serve the first batch; a change of model drops every other request's KV."""
        if late := self._overdue(now):
            return Fail(late)
        if not self._batches:
            return Idle()
        if now >= self._sort_at:
            self._sort(now)
        batch = self._batches[0]
        if batch.model != self._loaded:
            self._load(batch.model)
        unserved = batch.unserved()
        if unserved:
            return Prefill(batch.model, unserved)
        requests = tuple([job.request for job in batch.jobs.values()])
        return Decode(batch.model, requests, min(self._patience(now), self._sort_at - now))

    def record(self, work: Work, outcome: Outcome, now: float) -> None:
        """Count tokens and forget what is finished.

        A sort that fell due while the weights came is made up for first, with the keys of before
        the prefill: the authors' worker sorts during its swap.
        """
        if not isinstance(work, Prefill | Decode):
            return
        if self._sort_at < outcome.start:
            self._sort(outcome.start)
        skipped = {request.id for request in outcome.skipped}
        for request in work.requests:
            if request.id not in skipped:
                job = self._jobs[request.id]
                job.cached = True
                job.generated += outcome.steps
                job.batch.remaining_s = None
                self._without_token.pop(request.id, None)
        self._forget(outcome.finished)

    def cancel(self, request: Request, now: float) -> None:
        """Forget the request, and its batch with the last one."""
        self._forget((request,))

    def _sort(self, time: float) -> None:
        self._batches.sort(key=self._remaining_s)
        again = time + self._options.resort_s
        busy = again < self._last_arrival + self._options.traffic_gap_s
        self._sort_at = again if busy else math.inf

    def _load(self, model: str) -> None:
        self._loaded = model
        for job in self._jobs.values():
            if job.cached:
                job.cached = False
                job.batch.remaining_s = None

    def _forget(self, requests: tuple[Request, ...]) -> None:
        for request in requests:
            batch = self._jobs.pop(request.id).batch
            self._without_token.pop(request.id, None)
            del batch.jobs[request.id]
            batch.remaining_s = None
            if not batch.jobs:
                self._batches = [other for other in self._batches if other is not batch]

    def _patience(self, now: float) -> float:
        """Return the seconds until the first request without a token is late."""
        oldest = next(iter(self._without_token.values()), None)
        if oldest is None:
            return math.inf
        return oldest.request.arrival + self._options.drop_after_s - now

    def _overdue(self, now: float) -> tuple[Request, ...]:
        late = []
        for job in self._without_token.values():
            if now - job.request.arrival <= self._options.drop_after_s:
                break
            late.append(job.request)
        self._forget(tuple(late))
        return tuple(late)

    def _remaining_s(self, batch: _Batch) -> float:
        if batch.remaining_s is None:
            batch.remaining_s = self._time_left(batch, self._costs[batch.model])
        return batch.remaining_s

    def _time_left(self, batch: _Batch, cost: ModelCost) -> float:
        missing = [job.length for job in batch.jobs.values() if not job.cached]
        if missing:
            return cost.prefill.seconds(sum(missing), sum(n * n for n in missing), len(missing))
        first = next(iter(batch.jobs.values()))
        step = cost.decode.step_s(len(batch.jobs), sum(job.length for job in batch.jobs.values()))
        return step * (self._lengths[first.request.id] - first.generated)
