"""What a model engine leases from the instance's memory, and how vLLM's objects find it."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aegaeon.live.instance.device_pool import DevicePool

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.block_pool import BlockPool

KEY = "aegaeon"
_leases: dict[str, Lease] = {}


@dataclass
class Lease:
    """Model `name`, from checkpoint folder `path`, on this rank's part of an instance's memory.

    A worker finds its lease by `key`, which vLLM's configuration carries. `block_pool` is that of
    the engine's scheduler, on rank 0.
    """

    name: str
    path: Path
    pool: DevicePool
    key: str = ""
    block_pool: BlockPool | None = None

    def __post_init__(self) -> None:
        # One process may have several pools with a model of this name.
        self.key = self.key or f"{self.name}@{id(self.pool):x}"


@contextlib.contextmanager
def leasing(lease: Lease) -> Iterator[None]:
    """Let executors and workers that vLLM makes meanwhile find the lease."""
    _leases[lease.key] = lease
    try:
        yield
    finally:
        del _leases[lease.key]


def lease_of(config: VllmConfig) -> Lease:
    """Return the lease of the engine that has this configuration."""
    return _leases[config.additional_config[KEY]]


def collect(config: VllmConfig | None) -> None:
    """Free the objects of an engine that was deleted; they refer to one another."""
    if config is not None:
        config.compilation_config.static_forward_context.clear()
    # vLLM freezes all existing objects whenever it makes an engine; the collector skips those.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
