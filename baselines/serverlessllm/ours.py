"""ServerlessLLM: request-level autoscaling, one model per GPU until its requests are done.

Source: Fu et al., OSDI'24, and Aegaeon section 7.1 for the SJF variant (ServerlessLLM+). A GPU
that serves a model takes that model's requests as they come, up to its batch limit; a GPU that
falls idle loads the model at the head of one global queue.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aegaeon.constraints import at_least, check_fields
from aegaeon.core import CostModel, Deployment, Fleet, InstanceSpec, Request, Stage
from aegaeon.policy.decode import kv_need
from aegaeon.policy.interface import (
    NO_LENGTHS,
    Dispatcher,
    Placement,
    Refusal,
    Scheduler,
    System,
)
from aegaeon.policy.sizing import kv_room, tensor_parallel
from baselines.continuous_batching import ContinuousBatching


@dataclass
class ServerlessLLM(System):
    """Request-level switching.

    Attributes:
        shortest_first: order the queue by predicted service time with the true output length
            (ServerlessLLM+) instead of by arrival.
        max_batch: requests per GPU; 0 leaves it to the KV memory. The authors' harness used 4.
        drop_after_s: refuse a request that has waited this long unserved; 0 never does.
        load_gbps: gigabytes per second of weight loading; 0 takes the device's link.
    """

    name: str = "serverlessllm"
    shortest_first: bool = False
    max_batch: int = field(default=0, metadata=at_least(0, 1_000_000))
    drop_after_s: float = field(default=0.0, metadata=at_least(0, 1e9))
    load_gbps: float = field(default=0.0, metadata=at_least(0, 1e6))

    @property
    def oracle(self) -> bool:
        """Shortest-first order reads true output lengths."""
        return self.shortest_first

    def fleet(self, deployment: Deployment) -> Fleet:
        """Make every tensor-parallel group a colocated instance."""
        check_fields(self, "system")
        tp = tensor_parallel(deployment)
        link = self.load_gbps * 1e9 or deployment.device.link_bandwidth
        return tuple(
            InstanceSpec(
                id=i,
                stage=Stage.FULL,
                device=deployment.device,
                kv_bytes=kv_room(deployment, 1),
                link_bandwidth=link,
                tp=tp,
                node=i * tp // deployment.gpus_per_node,
            )
            for i in range(deployment.gpus // tp)
        )

    def dispatcher(self, deployment: Deployment, fleet: Fleet) -> Dispatcher:
        """Build the global queue."""
        return GlobalQueue(self, fleet, deployment.costs, deployment.lengths)

    def scheduler(self, deployment: Deployment, instance: InstanceSpec) -> Scheduler:
        """Build plain continuous batching."""
        return ContinuousBatching()


@dataclass(slots=True)
class _Gpu:
    """What the dispatcher knows of one GPU."""

    id: int
    kv_bytes: float
    model: str | None = None
    running: int = 0
    reserved: int = 0
    up: bool = True


_Entry = tuple[float, int, Request]


@dataclass(slots=True)
class _Backlog:
    """Held requests in the order of their keys: one heap over all, one sorted list per model."""

    heap: list[_Entry] = field(default_factory=list)
    by_model: dict[str, list[_Entry]] = field(default_factory=dict)
    held: dict[int, _Entry] = field(default_factory=dict)

    def push(self, key: float, request: Request) -> None:
        entry = (key, request.id, request)
        self.held[request.id] = entry
        heapq.heappush(self.heap, entry)
        insort(self.by_model.setdefault(request.model, []), entry)

    def head(self) -> Request | None:
        while self.heap and self.heap[0][1] not in self.held:
            heapq.heappop(self.heap)
        return self.heap[0][2] if self.heap else None

    def first(self, model: str | None) -> Request | None:
        waiting = self.by_model.get(model or "")
        return waiting[0][2] if waiting else None

    def remove(self, request: Request) -> None:
        waiting = self.by_model[request.model]
        del waiting[bisect_left(waiting, self.held.pop(request.id))]


class GlobalQueue:
    """Join a GPU that serves the model and has room, else an idle GPU, else wait in the queue."""

    def __init__(
        self,
        options: ServerlessLLM,
        fleet: Fleet,
        costs: CostModel,
        lengths: Mapping[int, int] = NO_LENGTHS,
    ) -> None:
        self._options = options
        self._costs = costs
        self._lengths = lengths
        self._gpus = {i.id: _Gpu(i.id, i.kv_bytes) for i in fleet}
        self._idle: OrderedDict[int, None] = OrderedDict((i.id, None) for i in fleet)
        self._serving: dict[str, dict[int, None]] = {}
        self._backlog = _Backlog()

    def place(self, request: Request, stage: Stage, now: float) -> int | Refusal | None:
        """Return a GPU or hold the request."""
        gpu = self._serving_gpu(request) or self._idle_gpu(request.model)
        if gpu is None:
            self._backlog.push(self._key(request), request)
            return None
        return self._join(gpu, request)

    def finished(
        self, request: Request, stage: Stage, instance: int, now: float
    ) -> Sequence[Placement]:
        """Free the request's share; let waiting requests of the model in, or load the next one."""
        gpu = self._gpus[instance]
        gpu.running -= 1
        gpu.reserved -= self._need(request)
        placements = self._expire(now)
        if gpu.running == 0:
            del self._serving[request.model][instance]
        return placements + self._let_in(gpu)

    def available(self, instance: int, up: bool, now: float) -> Sequence[Placement]:
        """Give the GPU nothing while it is down; when it is back, let waiting requests in."""
        gpu = self._gpus[instance]
        gpu.up, gpu.model = up, None
        self._idle.pop(instance, None)
        return self._let_in(gpu)

    def _let_in(self, gpu: _Gpu) -> list[Placement]:
        placements: list[Placement] = []
        if not gpu.up:
            return placements
        if gpu.running == 0:
            head = self._backlog.head()
            if head is None:
                self._idle[gpu.id] = None
                return placements
            placements += self._take(gpu, head)
        while (waiting := self._backlog.first(gpu.model)) and self._fits(gpu, waiting):
            placements += self._take(gpu, waiting)
        return placements

    def _take(self, gpu: _Gpu, request: Request) -> list[Placement]:
        self._backlog.remove(request)
        return [Placement(request, self._join(gpu, request))]

    def _join(self, gpu: _Gpu, request: Request) -> int:
        gpu.model = request.model
        gpu.running += 1
        gpu.reserved += self._need(request)
        self._idle.pop(gpu.id, None)
        self._serving.setdefault(request.model, {})[gpu.id] = None
        return gpu.id

    def _serving_gpu(self, request: Request) -> _Gpu | None:
        gpus = [self._gpus[i] for i in self._serving.get(request.model, ())]
        return min((g for g in gpus if self._fits(g, request)), key=_running, default=None)

    def _idle_gpu(self, model: str) -> _Gpu | None:
        """Return an idle GPU: one that still holds the model, else the longest idle one."""
        holders = (i for i in self._idle if self._gpus[i].model == model)
        chosen = next(holders, next(iter(self._idle), None))
        return None if chosen is None else self._gpus[chosen]

    def _fits(self, gpu: _Gpu, request: Request) -> bool:
        full = self._options.max_batch and gpu.running >= self._options.max_batch
        if full or not gpu.up:
            return False
        return gpu.running == 0 or gpu.reserved + self._need(request) <= gpu.kv_bytes

    def _need(self, request: Request) -> int:
        return kv_need(request) * self._costs[request.model].kv_bytes_per_token

    def _key(self, request: Request) -> float:
        if not self._options.shortest_first:
            return request.arrival
        cost, tokens = self._costs[request.model], request.input_tokens
        due = self._lengths[request.id]
        decode = due * cost.decode.step_s(1, tokens + due / 2)
        return cost.prefill.seconds(tokens, tokens * tokens) + decode

    def _expire(self, now: float) -> list[Placement]:
        limit = self._options.drop_after_s
        if not limit:
            return []
        waiting = [request for _, _, request in self._backlog.held.values()]
        refused = [request for request in waiting if now - request.arrival > limit]
        for request in refused:
            self._backlog.remove(request)
        return [Placement(r, Refusal(f"unserved after {limit:g} s")) for r in refused]


def _running(gpu: _Gpu) -> int:
    return gpu.running
