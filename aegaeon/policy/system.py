"""The Aegaeon system: a pool of prefill and decoding instances (paper section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aegaeon.constraints import above, at_least, check_fields
from aegaeon.core import Deployment, Fleet, InstanceSpec, Request, Stage
from aegaeon.errors import UserError
from aegaeon.policy.decode import DecodeDispatcher, DecodeScheduler, RoundOptions
from aegaeon.policy.interface import Dispatcher, Placement, Refusal, Scheduler, System
from aegaeon.policy.prefill import MAX_GROUP_SIZE, PrefillDispatcher, PrefillScheduler
from aegaeon.policy.quota import ALPHA_FLOOR, QMAX_S
from aegaeon.policy.sizing import kv_room, tensor_parallel


@dataclass
class Aegaeon(System):
    """Token-level switching with grouped prefill and decoding rounds.

    Attributes:
        prefill, decode: instances of each kind; together they must use every GPU.
        prefetch: keep a second weight slot per device and fill it with the next model.
        lazy_eviction: leave KV on the device until another model needs its bytes.
        accumulative, count_requests, batch_term, pools: the paper's choices by default. The public
            artifact shrinks groups as they run, balances prefill by request count, estimates decode
            steps for a batch of -1 and splits the cluster into independent pools by model.
    """

    name: str = "aegaeon"
    prefill: int = field(default=6, metadata=at_least(1, 100_000))
    decode: int = field(default=10, metadata=at_least(1, 100_000))
    qmax_s: float = field(default=QMAX_S, metadata=above(0, 1e6))
    alpha_floor: float = field(default=ALPHA_FLOOR, metadata=above(0, 1))
    max_group: int = field(default=MAX_GROUP_SIZE, metadata=at_least(1, 1_000_000))
    prefetch: bool = True
    lazy_eviction: bool = True
    accumulative: bool = True
    count_requests: bool = False
    batch_term: bool = True
    pools: int = field(default=1, metadata=at_least(1, 100_000))

    def fleet(self, deployment: Deployment) -> Fleet:
        """Lay out prefill instances first, then decoding ones, filling nodes in order."""
        check_fields(self, "system")
        tp = tensor_parallel(deployment)
        if (self.prefill + self.decode) * tp != deployment.gpus:
            raise UserError(
                f"system.prefill + system.decode: {self.prefill} + {self.decode} instances of "
                f"{tp} GPU(s) must use exactly hardware.gpus = {deployment.gpus}"
            )
        if self.prefill % self.pools or self.decode % self.pools:
            raise UserError(
                f"system.pools: {self.pools} pools must divide prefill ({self.prefill}) and "
                f"decode ({self.decode})"
            )
        slots = 2 if self.prefetch else 1
        stages = [Stage.PREFILL] * self.prefill + [Stage.DECODE] * self.decode
        return tuple(
            InstanceSpec(
                id=i,
                stage=stage,
                device=deployment.device,
                kv_bytes=kv_room(deployment, slots),
                link_bandwidth=deployment.device.link_bandwidth,
                tp=tp,
                node=i * tp // deployment.gpus_per_node,
                weight_slots=slots,
                lazy_eviction=self.lazy_eviction,
            )
            for i, stage in enumerate(stages)
        )

    def dispatcher(self, deployment: Deployment, fleet: Fleet) -> Dispatcher:
        """Build one dispatcher per pool and send each model to its own."""
        pools = [self._pool(deployment, fleet, k) for k in range(self.pools)]
        if len(pools) == 1:
            return pools[0]
        homes = {m.name: pools[i % self.pools] for i, m in enumerate(deployment.models)}
        return _ByModel(homes)

    def scheduler(self, deployment: Deployment, instance: InstanceSpec) -> Scheduler:
        """Build Algorithm 1's or Algorithm 2's local part."""
        if instance.stage is Stage.PREFILL:
            return PrefillScheduler(self.max_group, self.accumulative, self.prefetch)
        options = RoundOptions(
            deployment.slo.tbt_s, self.qmax_s, self.alpha_floor, self.prefetch, self.batch_term
        )
        return DecodeScheduler(deployment.costs, instance.kv_bytes, options)

    def _pool(self, deployment: Deployment, fleet: Fleet, k: int) -> Dispatcher:
        prefill = [i for i in fleet if i.stage is Stage.PREFILL][k :: self.pools]
        decode = [i for i in fleet if i.stage is Stage.DECODE][k :: self.pools]
        first = PrefillDispatcher(
            tuple(prefill),
            deployment.costs,
            self.max_group,
            self.accumulative,
            self.count_requests,
        )
        return _ByStage(first, DecodeDispatcher(tuple(decode), deployment.costs))


class _ByStage:
    """Prefill placements by one dispatcher, decode placements by another."""

    def __init__(self, prefill: PrefillDispatcher, decode: DecodeDispatcher) -> None:
        self._prefill = prefill
        self._decode = decode

    def place(self, request: Request, stage: Stage, now: float) -> int:
        if stage is Stage.PREFILL:
            return self._prefill.place(request, stage, now)
        return self._decode.place(request, stage, now)

    def finished(
        self, request: Request, stage: Stage, instance: int, now: float
    ) -> Sequence[Placement]:
        if stage is Stage.PREFILL:
            return self._prefill.finished(request, stage, instance, now)
        return self._decode.finished(request, stage, instance, now)

    def available(self, instance: int, up: bool, now: float) -> Sequence[Placement]:
        # Instance ids are unique in the fleet: a dispatcher without this one has nothing to change.
        both = (self._prefill, self._decode)
        return [placed for part in both for placed in part.available(instance, up, now)]


class _ByModel:
    """Independent pools: each model belongs to one."""

    def __init__(self, homes: dict[str, Dispatcher]) -> None:
        self._homes = homes

    def place(self, request: Request, stage: Stage, now: float) -> int | Refusal | None:
        return self._homes[request.model].place(request, stage, now)

    def finished(
        self, request: Request, stage: Stage, instance: int, now: float
    ) -> Sequence[Placement]:
        return self._homes[request.model].finished(request, stage, instance, now)

    def available(self, instance: int, up: bool, now: float) -> Sequence[Placement]:
        pools = {id(pool): pool for pool in self._homes.values()}.values()
        return [placed for pool in pools for placed in pool.available(instance, up, now)]
