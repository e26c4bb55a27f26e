"""The options of the live backend; also the schema of the configuration group `backend`."""

from __future__ import annotations

from dataclasses import dataclass, field

from aegaeon.constraints import above, at_least, one_of

TINY = "tiny-"
AUTH = one_of("token", "disabled")
ON_FAULT = one_of("recover", "fail")
# The least size of a slab if `slab_bytes` is 0.
LEAST_SLAB_BYTES = 1 << 20


@dataclass
class LiveOptions:
    """How instances are started, and how much memory instances and nodes reserve.

    Attributes:
        address: `local` starts a Ray cluster for the run and ends it; `auto` joins the cluster that
            runs on this machine; any other value is the address of a cluster to join.
        auth: Ray's `RAY_AUTH_MODE`: `token`, or `disabled` on a closed network.
        device: `cpu` or `cuda`; one device per instance.
        threads: OMP_NUM_THREADS of each instance.
        checkpoints: folder per model type; a type called tiny-ARCHITECTURE needs none.
        kv_bytes: bytes for KV per device; 0 takes what weights leave of the device's memory.
        cache_bytes: bytes of a node's host weight cache.
        slabs: number of slabs in a node's host KV pool; a slab holds blocks of one size.
        slab_bytes: bytes of a slab; 0 takes 1 MiB, or 16 of the largest KV blocks if that is more.
        block_size: tokens per KV block.
        calibrate: give the policies costs measured at the start instead of estimated costs.
        start_timeout_s: seconds to wait for devices, and for instances to be ready.
        on_fault: `recover` restarts a dead instance and lets its requests go on; `fail` ends the
            run.
        restarts: the number of times that one instance may be restarted.
        stall_timeout_s: seconds without any event, while requests are open, after which a run is
            broken.
        overcommit: start although this machine has too few cores or too little memory for the
            instances, or runs another live run.
    """

    address: str = "local"
    auth: str = field(default="token", metadata=AUTH)
    device: str = field(default="cpu", metadata=one_of("cpu", "cuda"))
    threads: int = field(default=1, metadata=at_least(1, 1024))
    checkpoints: dict[str, str] = field(default_factory=dict)
    kv_bytes: int = field(default=0, metadata=at_least(0))
    cache_bytes: int = field(default=2 << 30, metadata=at_least(1))
    slab_bytes: int = field(default=0, metadata=at_least(0))
    slabs: int = field(default=64, metadata=at_least(1, 1_000_000))
    block_size: int = field(default=32, metadata=at_least(1, 65_536))
    calibrate: bool = True
    start_timeout_s: float = field(default=300.0, metadata=above(0, 1e6))
    stall_timeout_s: float = field(default=60.0, metadata=above(0, 1e6))
    on_fault: str = field(default="recover", metadata=ON_FAULT)
    restarts: int = field(default=2, metadata=at_least(0, 1000))
    overcommit: bool = False


@dataclass
class SwitchCostOptions:
    """How model switches are measured on one device.

    Attributes:
        device: `cpu` or `cuda`.
        checkpoints: folder per model type; a type called tiny-ARCHITECTURE needs none.
        rounds: number of rounds; each starts a new process with a plain engine per model.
        repeats: switches per model, way and round.
        kv_bytes: bytes for KV.
        block_size: tokens per KV block.
        max_len: the longest request, in tokens; a model's own limit may be lower.
        overcommit: start although this machine runs another live run.
    """

    device: str = field(default="cpu", metadata=one_of("cpu", "cuda"))
    checkpoints: dict[str, str] = field(default_factory=dict)
    rounds: int = field(default=3, metadata=at_least(1, 1000))
    repeats: int = field(default=5, metadata=at_least(1, 1000))
    kv_bytes: int = field(default=1 << 30, metadata=at_least(0))
    block_size: int = field(default=32, metadata=at_least(1, 65_536))
    max_len: int = field(default=2048, metadata=at_least(2, 100_000_000))
    overcommit: bool = False
