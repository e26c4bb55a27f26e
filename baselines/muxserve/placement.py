"""Which models share which GPUs: MuxServe's placement (its algorithms 1 and 2)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from aegaeon.core import GB, Deployment, DeviceSpec, SharingModel
from aegaeon.policy.sizing import MIN_KV_BYTES
from baselines.muxserve.throughput import Llm, describe, joint_throughput, sm_share

SM_OVERLOAD = 0.2
_SAME = 1e-12


@dataclass(frozen=True, slots=True)
class MemoryRule:
    """MuxServe's planning constants, per GPU (muxsched/placement.py of its repository).

    Attributes:
        kv_share: part of the usable memory that is kept from weights.
        activation_gb, overhead_gb: gigabytes charged per model for activations and its processes.
        max_models: models per mesh; None leaves it to memory and SMs.
    """

    kv_share: float = 0.4
    activation_gb: float = 6.0
    overhead_gb: float = 1.6
    max_models: int | None = None

    def budget(self, device: DeviceSpec) -> float:
        """Return the bytes for weights, activations and processes."""
        return device.usable_memory * (1.0 - self.kv_share) * device.memory_bytes

    def charge(self, llm: Llm) -> float:
        """Return the bytes that a placed model takes."""
        return llm.cost.weight_bytes + (self.activation_gb + self.overhead_gb) * GB


@dataclass(frozen=True, slots=True)
class Unit:
    """A mesh of `gpus` GPUs on `node`, its models, and the bytes left for their KV per GPU."""

    gpus: int
    node: int
    models: tuple[str, ...]
    kv_bytes: float


@dataclass(frozen=True, slots=True)
class Placing:
    """The best placement found, the models it has no room for, and its expected requests/s."""

    units: tuple[Unit, ...]
    unplaced: tuple[str, ...]
    throughput: float


@dataclass(slots=True)
class _Mesh:
    """A mesh while models are put on it; `budget`, `kv_bytes` and `sm` are what is left."""

    gpus: int
    node: int
    budget: float
    kv_bytes: float
    sm: float = 1.0
    llms: list[Llm] = field(default_factory=list)
    stretches: list[float] = field(default_factory=list)
    throughput: float = 0.0
    load: float = 0.0


def place(deployment: Deployment, rule: MemoryRule, sharing: SharingModel) -> Placing:
    """Return the partition and placement with the most models, then the most throughput.

    A model runs on meshes of its own tensor-parallel degree, for which its step times are known.
    """
    llms = [describe(model, deployment) for model in deployment.models]
    llms.sort(key=lambda llm: -llm.load)
    plans = [
        _Greedy(deployment.device, rule, sharing).place(llms, cluster)
        for cluster in clusters(deployment, sorted({llm.tp for llm in llms}))
    ]
    return max(plans, key=lambda plan: (-len(plan.unplaced), plan.throughput))


def clusters(deployment: Deployment, degrees: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
    """Yield every way to cut the nodes into meshes, as (GPUs, node) pairs, up to equal nodes."""
    whole, rest = divmod(deployment.gpus, deployment.gpus_per_node)
    for chosen in itertools.combinations_with_replacement(
        partitions(deployment.gpus_per_node, degrees), whole
    ):
        for last in partitions(rest, degrees):
            nodes = enumerate((*chosen, last))
            yield [(gpus, node) for node, meshes in nodes for gpus in meshes]


def partitions(gpus: int, degrees: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the ways to cut `gpus` GPUs into meshes of the given sizes, largest first.

    Sizes that no model asks for are left out, and no partition leaves room for one more mesh.
    """
    fitting = [degree for degree in degrees if degree <= gpus]
    if not fitting:
        return [()]
    largest, *smaller = sorted(fitting, reverse=True)
    counts = range(gpus // largest, -1, -1) if smaller else (gpus // largest,)
    return [
        (largest,) * count + rest
        for count in counts
        for rest in (partitions(gpus - count * largest, smaller) if smaller else [()])
    ]


class _Greedy:
    """Puts each model, the most demanding first, where the expected throughput gains most."""

    def __init__(self, device: DeviceSpec, rule: MemoryRule, sharing: SharingModel) -> None:
        self._device = device
        self._rule = rule
        self._sharing = sharing

    def place(self, llms: Sequence[Llm], cluster: Sequence[tuple[int, int]]) -> Placing:
        usable = self._device.usable_memory * self._device.memory_bytes
        budget = self._rule.budget(self._device)
        meshes = [_Mesh(gpus, node, budget, usable) for gpus, node in cluster]
        unplaced = []
        for llm in llms:
            share = sm_share(llm, usable - budget, self._sharing)
            hosts = [mesh for mesh in meshes if self._fits(mesh, llm, share)]
            if hosts:
                self._put(hosts, llm, share)
            else:
                unplaced.append(llm.name)
        units = [
            Unit(m.gpus, m.node, tuple(llm.name for llm in m.llms), m.kv_bytes)
            for m in meshes
            if m.llms
        ]
        return Placing(tuple(units), tuple(unplaced), sum(mesh.throughput for mesh in meshes))

    def _fits(self, mesh: _Mesh, llm: Llm, share: float) -> bool:
        """Apply MuxServe's memory and SM rules; its check leaves out the model's own overhead."""
        rule = self._rule
        return (
            mesh.gpus == llm.tp
            and mesh.budget >= llm.cost.weight_bytes
            and mesh.kv_bytes - rule.charge(llm) >= MIN_KV_BYTES
            and mesh.sm + SM_OVERLOAD >= share - _SAME
            and (rule.max_models is None or len(mesh.llms) < rule.max_models)
        )

    def _put(self, hosts: Sequence[_Mesh], llm: Llm, share: float) -> None:
        stretch = self._sharing.decode_slowdown(share, (share,))
        charge = self._rule.charge(llm)
        best, best_key, best_throughput = hosts[0], (-math.inf, 0.0), 0.0
        for mesh in hosts:
            throughput = joint_throughput(
                [*mesh.llms, llm], [*mesh.stretches, stretch], mesh.kv_bytes - charge
            )
            key = (round(throughput - mesh.throughput, 9), -mesh.load)
            if key > best_key:
                best, best_key, best_throughput = mesh, key, throughput
        best.llms.append(llm)
        best.stretches.append(stretch)
        best.throughput = best_throughput
        best.load += llm.load
        best.sm -= share
        best.budget -= charge
        best.kv_bytes -= charge
