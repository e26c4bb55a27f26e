"""Models, devices, instances and the deployment that a system plans with.

Everything is immutable and checks itself on construction. Times are seconds, sizes bytes, lengths
tokens.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from aegaeon.core.costs import IDEAL, CostModel, Overheads, SharingModel

GB = 1e9


class Stage(enum.Enum):
    """The part of a request's life that an instance serves."""

    PREFILL = "prefill"
    DECODE = "decode"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder-only transformer: what sizes the weights, the KV cache and a roofline."""

    name: str
    type: str
    parameters: float
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    max_len: int
    dtype_bytes: int = 2
    tp: int = 1

    def __post_init__(self) -> None:
        sizes = (self.parameters, self.layers, self.hidden, self.ffn, self.heads, self.kv_heads)
        if min(*sizes, self.head_dim, self.max_len, self.dtype_bytes, self.tp) <= 0:
            raise ValueError(f"model {self.name}: every size must be positive, got {self}")
        if self.heads % self.kv_heads:
            raise ValueError(f"model {self.name}: heads must be a multiple of kv_heads")

    @property
    def weight_bytes(self) -> float:
        """Bytes of weights of all tensor-parallel ranks together."""
        return self.parameters * self.dtype_bytes

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values of one token over all layers and ranks (GQA's size)."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype_bytes


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A GPU and its host link; `pcie_efficiency` is the constant of the paper's appendix A.2."""

    name: str
    memory_bytes: float
    memory_bandwidth: float
    peak_flops: float
    pcie_bandwidth: float
    pcie_efficiency: float = 0.625
    usable_memory: float = 0.9

    def __post_init__(self) -> None:
        positive = (self.memory_bytes, self.memory_bandwidth, self.peak_flops, self.pcie_bandwidth)
        if min(positive) <= 0:
            raise ValueError(f"device {self.name}: every size must be positive, got {self}")
        if not (0 < self.pcie_efficiency <= 1 and 0 < self.usable_memory <= 1):
            raise ValueError(f"device {self.name}: efficiencies must lie in (0, 1], got {self}")

    @property
    def link_bandwidth(self) -> float:
        """Bytes per second that a host-to-device copy reaches in practice, one direction."""
        return self.pcie_bandwidth * self.pcie_efficiency


@dataclass(frozen=True, slots=True)
class Slo:
    """Token k (from 0) of a request is due at arrival + ttft_s + k * tbt_s (paper section 2.1)."""

    ttft_s: float
    tbt_s: float

    def __post_init__(self) -> None:
        if self.ttft_s <= 0 or self.tbt_s <= 0:
            raise ValueError(f"SLO targets must be positive, got {self}")


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """A worker that owns a device, a tensor-parallel group, or shares a device among models.

    Attributes:
        kv_bytes: bytes for KV blocks on the device.
        weight_slots: models whose weights fit the device at once; 2 allows a prefetched model.
        models: models that are always resident (MuxServe); empty where models are switched.
        sharing: how resident models slow one another down; required where `models` is not empty.
        keep_kv: False drops KV on a switch; a further prefill recomputes the KV.
        lazy_eviction: True leaves KV on the device until another model needs its bytes.
        link_bandwidth: bytes per second of host-to-device copies, each direction.
    """

    id: int
    stage: Stage
    device: DeviceSpec
    kv_bytes: float
    link_bandwidth: float
    tp: int = 1
    node: int = 0
    weight_slots: int = 1
    models: tuple[str, ...] = ()
    sharing: SharingModel | None = None
    keep_kv: bool = True
    lazy_eviction: bool = True


Fleet = tuple[InstanceSpec, ...]


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a system plans with: devices, models, costs, mean rates and lengths, and the SLO.

    `rates` are mean requests per second by model, as an operator would know them. The simulator
    adds `overheads`; no policy reads them. `lengths` has the tokens that each request will produce,
    by request id; the mapping is empty unless the system is an oracle.
    """

    device: DeviceSpec
    gpus: int
    gpus_per_node: int
    models: tuple[ModelSpec, ...]
    costs: CostModel
    slo: Slo
    rates: Mapping[str, float] = field(default_factory=dict)
    mean_input_tokens: float = 714.0
    mean_output_tokens: float = 300.0
    overheads: Overheads = IDEAL
    lengths: Mapping[int, int] = field(default_factory=dict)
