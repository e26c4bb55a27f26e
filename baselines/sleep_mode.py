"""Sleep mode: whole models are switched and no KV is kept (vLLM's sleep mode, llama-swap, Ollama).

These tools switch when the requests of a model are done (`drain`), or when a router puts the model
to sleep and its requests are computed again later (`preempt`). README.md has the sources, and says
what the tools do to requests that this code does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aegaeon.constraints import above, check_fields, one_of
from aegaeon.core import CostModel, Deployment, Fleet, InstanceSpec, Request, Stage
from aegaeon.policy.decode import kv_need
from aegaeon.policy.interface import Dispatcher, Placement, Scheduler, System, serving
from baselines.model_turns import ModelTurns
from baselines.serverlessllm.ours import ServerlessLLM

SWITCHES = ("drain", "in_order", "preempt")


@dataclass
class SleepMode(System):
    """Whole-model switching on every GPU, behind one front end.

    Attributes:
        switch: `drain` lets the requests of the running model finish, also those that still come,
            while other models wait (llama-swap). With `in_order` no request passes one that waits
            (Ollama). `preempt` gives models time slices (vLLM's sleep level 1 behind a router).
        slice_share: a time slice as a share of the TTFT target; of the paper's 10 s, 0.4 is the 4 s
            that Aegaeon's turns last at most.
        copy_out: count a copy of the leaving model's weights to the host as well: vLLM makes one
            whenever a model goes to sleep. For simulated runs only; the live engine keeps its copy.
    """

    name: str = "sleep_mode"
    switch: str = field(default="drain", metadata=one_of(*SWITCHES))
    slice_share: float = field(default=0.4, metadata=above(0, 1e6))
    copy_out: bool = False

    def fleet(self, deployment: Deployment) -> Fleet:
        """Make every tensor-parallel group an instance that forgets KV when it switches."""
        check_fields(self, "system")
        # Models of one size leave and enter one after the other.
        link = deployment.device.link_bandwidth / (2 if self.copy_out else 1)
        fleet = ServerlessLLM().fleet(deployment)
        return tuple([replace(i, keep_kv=False, link_bandwidth=link) for i in fleet])

    def dispatcher(self, deployment: Deployment, fleet: Fleet) -> Dispatcher:
        """Build the front end."""
        return StickyRouter(fleet, deployment.costs)

    def scheduler(self, deployment: Deployment, instance: InstanceSpec) -> Scheduler:
        """Build one host's queue."""
        slice_s = self.slice_share * deployment.slo.ttft_s
        return ModelTurns(
            deployment.costs,
            instance.kv_bytes,
            slice_s if self.switch == "preempt" else math.inf,
            self.switch == "in_order",
        )


@dataclass(slots=True)
class _Host:
    """What the front end knows of one GPU: KV tokens set aside per model asked for there."""

    id: int
    kv_bytes: float
    reserved: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    last: str | None = None


class StickyRouter:
    """Keep a model's requests on one host while their KV fits, else take the least busy host.

    That is the one with the fewest models asked for; of several, one that still holds the model.
    A request is bound to its host at once: every host has a queue of its own.
    """

    def __init__(self, fleet: Fleet, costs: CostModel) -> None:
        self._hosts = {i.id: _Host(i.id, i.kv_bytes) for i in fleet}
        self._costs = costs
        self._down: set[int] = set()

    def place(self, request: Request, stage: Stage, now: float) -> int:
        """Return a host at once, however long its queue is."""
        hosts = serving(self._hosts, self._down)
        host = min(hosts, key=lambda host: self._rank(host, request))
        host.reserved[request.model] = host.reserved.get(request.model, 0) + kv_need(request)
        host.requests += 1
        return host.id

    def finished(
        self, request: Request, stage: Stage, instance: int, now: float
    ) -> Sequence[Placement]:
        """Free the request's share."""
        host = self._hosts[instance]
        host.last = request.model
        host.requests -= 1
        host.reserved[request.model] -= kv_need(request)
        if not host.reserved[request.model]:
            del host.reserved[request.model]
        return ()

    def available(self, instance: int, up: bool, now: float) -> Sequence[Placement]:
        """Pass over the host while it is down; it comes back with nothing awake."""
        (self._down.discard if up else self._down.add)(instance)
        self._hosts[instance].last = None
        return ()

    def _rank(self, host: _Host, request: Request) -> tuple[bool, int, bool, int]:
        model = request.model
        room = host.kv_bytes // self._costs[model].kv_bytes_per_token
        reserved = host.reserved.get(model, 0)
        joins = 0 < reserved <= room - kv_need(request)
        return not joins, len(host.reserved), host.last != model, host.requests
