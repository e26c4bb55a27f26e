"""ServerlessLLM and ServerlessLLM+ as the authors' simulator ran them (Aegaeon's public artifact).

They differ from `ours` in more than numbers: a request is bound to a worker's own queue when it
arrives, batches are capped at four, and the SJF variant pre-empts a decoding batch for any batch
that still needs its prefill, which drops the batch's KV. They are kept for comparison with the
paper's curves; `serverlessllm` and `serverlessllm_plus` are the fair baselines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aegaeon.constraints import at_least, check_fields
from aegaeon.core import CostModel, Deployment, Fleet, InstanceSpec, Request, Stage
from aegaeon.policy.interface import Dispatcher, Placement, Scheduler, System, serving
from baselines.continuous_batching import ContinuousBatching
from baselines.serverlessllm.ours import ServerlessLLM
from baselines.serverlessllm.shortest_batch import ShortestBatchFirst, ShortestBatchOptions

# Mean intervals between a worker's own arrivals after which it takes the traffic for ended.
_GAPS = 5.0


@dataclass
class ServerlessLLMPaper(System):
    """The authors' preset: batch of four, 16 GB/s loading, requests unserved for 15 s fail."""

    name: str = "serverlessllm_paper"
    shortest_first: bool = False
    max_batch: int = field(default=4, metadata=at_least(1, 1_000_000))
    drop_after_s: float = field(default=15.0, metadata=at_least(0, 1e9))
    load_gbps: float = field(default=16.0, metadata=at_least(0, 1e6))

    @property
    def oracle(self) -> bool:
        """Shortest-batch-first order reads true output lengths."""
        return self.shortest_first

    def fleet(self, deployment: Deployment) -> Fleet:
        """Make every GPU a worker; a switch drops the KV of whatever has not finished."""
        check_fields(self, "system")
        fleet = ServerlessLLM(load_gbps=self.load_gbps).fleet(deployment)
        return tuple(replace(instance, keep_kv=False) for instance in fleet)

    def dispatcher(self, deployment: Deployment, fleet: Fleet) -> Dispatcher:
        """Build the binding rule of the authors' V02Policy or of its SJF sibling."""
        if self.shortest_first:
            return FewestBatches(fleet, self.max_batch)
        return TailRun(fleet, deployment.costs, self.max_batch)

    def scheduler(self, deployment: Deployment, instance: InstanceSpec) -> Scheduler:
        """Build a worker's queue."""
        drop_after_s = self.drop_after_s or float("inf")
        if self.shortest_first:
            arrivals = sum(deployment.rates.values())
            resort_s = 1.0 / arrivals if arrivals else float("inf")
            gap_s = _GAPS * resort_s * deployment.gpus
            options = ShortestBatchOptions(self.max_batch, drop_after_s, resort_s, gap_s)
            return ShortestBatchFirst(deployment.costs, options, deployment.lengths)
        return ContinuousBatching(drop_after_s=drop_after_s)


@dataclass(slots=True)
class _Worker:
    """A worker's queue as runs of one model each: [model, requests not finished]."""

    id: int
    runs: deque[list[str | int]] = field(default_factory=deque)
    loaded: str | None = None
    last_batch: float = float("-inf")
    swap_until: float = 0.0
    last_given: int = -1

    def tail(self) -> str | None:
        """Return the model that a request must ask for to extend the last run."""
        return str(self.runs[-1][0]) if self.runs else self.loaded

    def tail_length(self) -> int:
        """Return how many requests of the last run are not finished."""
        return int(self.runs[-1][1]) if self.runs else 0

    def append(self, model: str) -> None:
        """Queue one more request."""
        if self.runs and self.runs[-1][0] == model:
            self.runs[-1][1] = self.tail_length() + 1
        else:
            self.runs.append([model, 1])

    def stamp(self, now: float) -> tuple[float, int]:
        """When its last iteration ended: just now while it serves, earlier while it does not.

        Serving workers are within a step of one another; the one that was given a request longest
        ago goes first.
        """
        busy = self.runs and now >= self.swap_until
        return (now if busy else self.last_batch), self.last_given


class TailRun:
    """Extend a queue whose last run is this model and below the cap, else a fresh or LRU worker."""

    def __init__(self, fleet: Fleet, costs: CostModel, max_batch: int) -> None:
        self._bandwidth = fleet[0].link_bandwidth
        self._workers = {i.id: _Worker(i.id) for i in fleet}
        self._costs = costs
        self._max_batch = max_batch
        self._given = 0
        self._down: set[int] = set()

    def place(self, request: Request, stage: Stage, now: float) -> int:
        """Return a worker at once, however long its queue is."""
        workers = serving(self._workers, self._down)
        tails = [w for w in workers if w.tail() == request.model]
        roomy = [w for w in tails if w.tail_length() < self._max_batch]
        if roomy:
            worker = min(roomy, key=_Worker.tail_length)
        else:
            others = [w for w in workers if w.tail() != request.model]
            worker = min(others or tails, key=lambda w: (w.tail() is not None, w.stamp(now)))
        self._given += 1
        worker.last_given = self._given
        worker.append(request.model)
        if len(worker.runs) == 1:
            self._begin(worker, now)
        return worker.id

    def finished(
        self, request: Request, stage: Stage, instance: int, now: float
    ) -> Sequence[Placement]:
        """Shorten the first run of the model; begin the next one when the front run ends."""
        worker = self._workers[instance]
        worker.last_batch = now
        run = next(r for r in worker.runs if r[0] == request.model and r[1])
        run[1] = int(run[1]) - 1
        if not worker.runs[0][1]:
            while worker.runs and not worker.runs[0][1]:
                worker.runs.popleft()
            if worker.runs:
                self._begin(worker, now)
        return ()

    def available(self, instance: int, up: bool, now: float) -> Sequence[Placement]:
        """Pass over the worker while it is down; it comes back with nothing loaded."""
        (self._down.discard if up else self._down.add)(instance)
        self._workers[instance].loaded = None
        return ()

    def _begin(self, worker: _Worker, now: float) -> None:
        model = str(worker.runs[0][0])
        if model != worker.loaded:
            worker.loaded = model
            worker.swap_until = now + self._costs[model].weight_bytes / self._bandwidth


class FewestBatches:
    """Join the first batch of the model with room on any worker, else the shortest list."""

    def __init__(self, fleet: Fleet, max_batch: int) -> None:
        self._batches: dict[int, list[tuple[str, set[int]]]] = {i.id: [] for i in fleet}
        self._max_batch = max_batch
        self._down: set[int] = set()

    def place(self, request: Request, stage: Stage, now: float) -> int:
        """Return a worker at once, however long its list is."""
        for instance, batches in self._batches.items():
            if instance in self._down:
                continue
            for model, members in batches:
                if model == request.model and len(members) < self._max_batch:
                    members.add(request.id)
                    return instance
        ids = {i: i for i in self._batches}
        instance = min(serving(ids, self._down), key=lambda i: len(self._batches[i]))
        self._batches[instance].append((request.model, {request.id}))
        return instance

    def finished(
        self, request: Request, stage: Stage, instance: int, now: float
    ) -> Sequence[Placement]:
        """Take the request out of its batch and drop the batch when it is empty."""
        for _, members in self._batches[instance]:
            members.discard(request.id)
        self._batches[instance] = [b for b in self._batches[instance] if b[1]]
        return ()

    def available(self, instance: int, up: bool, now: float) -> Sequence[Placement]:
        """Pass over the worker while it is down; no request is ever held."""
        (self._down.discard if up else self._down.add)(instance)
        return ()
