"""What a user may set of the live backend; also the schema of its configuration group."""

from __future__ import annotations

from dataclasses import dataclass, field

from aegaeon.constraints import above, at_least, one_of

TINY = "tiny-"
AUTH = one_of("token", "disabled")
ON_FAULT = one_of("recover", "fail")
# Of a slab whose size is left open.
LEAST_SLAB_BYTES = 1 << 20


@dataclass
class LiveOptions:
    """How instances are started, and how much memory they and their nodes set aside.

    Attributes:
        address: `local` starts a Ray of its own and ends it; `auto` joins the one that runs on this
            machine; anything else is the address of one to join.
        auth: Ray's `RAY_AUTH_MODE`: `token`, or `disabled` on a closed network.
        device: `cpu` or `cuda`; one device per instance.
        threads: OMP_NUM_THREADS of each instance.
        checkpoints: folder per model type; a type called tiny-ARCHITECTURE needs none.
        kv_bytes: room for KV per device; 0 takes what the device's memory leaves.
        cache_bytes: budget of a node's host weight cache.
        slabs: size of a node's host KV pool; a slab holds blocks of one size.
        slab_bytes: bytes of a slab; 0 takes 1 MiB, or 16 of the largest KV blocks if that is more.
        block_size: tokens per KV block.
        calibrate: tell the policies costs measured at the start instead of estimated ones.
        start_timeout_s: how long to wait for devices, and for instances to be ready.
        on_fault: `recover` makes an instance that died again and lets its requests go on; `fail`
            ends the run.
        restarts: how often one instance may die and be made again.
        stall_timeout_s: a run with open requests in which nothing happens for so long is broken.
    """

    address: str = "local"
    auth: str = field(default="token", metadata=AUTH)
    device: str = field(default="cpu", metadata=one_of("cpu", "cuda"))
    threads: int = field(default=1, metadata=at_least(1))
    checkpoints: dict[str, str] = field(default_factory=dict)
    kv_bytes: int = field(default=0, metadata=at_least(0))
    cache_bytes: int = field(default=2 << 30, metadata=at_least(1))
    slab_bytes: int = field(default=0, metadata=at_least(0))
    slabs: int = field(default=64, metadata=at_least(1))
    block_size: int = field(default=32, metadata=at_least(1))
    calibrate: bool = True
    start_timeout_s: float = field(default=300.0, metadata=above(0))
    stall_timeout_s: float = field(default=60.0, metadata=above(0))
    on_fault: str = field(default="recover", metadata=ON_FAULT)
    restarts: int = field(default=2, metadata=at_least(0))


@dataclass
class SwitchCostOptions:
    """How a change of model is measured on one device.

    Attributes:
        device: `cpu` or `cuda`.
        checkpoints: folder per model type; a type called tiny-ARCHITECTURE needs none.
        rounds: how often engines are made anew.
        repeats: switches per model, way and round.
        kv_bytes: room for KV.
        block_size: tokens per KV block.
        max_len: the longest request, in tokens, if the model allows it.
    """

    device: str = field(default="cpu", metadata=one_of("cpu", "cuda"))
    checkpoints: dict[str, str] = field(default_factory=dict)
    rounds: int = field(default=3, metadata=at_least(1))
    repeats: int = field(default=5, metadata=at_least(1))
    kv_bytes: int = field(default=1 << 30, metadata=at_least(0))
    block_size: int = field(default=32, metadata=at_least(1))
    max_len: int = field(default=2048, metadata=at_least(2))
