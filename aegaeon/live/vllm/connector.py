"""vLLM's KV connector for blocks that may lie in the host pool (paper sections 5.1 and 5.3).

A request's KV is on the host after a prefill instance handed it over, or after vLLM preempted the
request here. In both cases vLLM asks this connector how many tokens it need not compute, and
allocates blocks for them. The connector lists a step's blocks; the executor has `KvStore` load them
before vLLM reads any.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    SupportsHMA,
)

from aegaeon.errors import UserError
from aegaeon.live.events import HostKv
from aegaeon.live.instance.kv_store import NULL_BLOCK, KvStore

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
    from vllm.forward_context import ForwardContext
    from vllm.v1.attention.backend import AttentionMetadata
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

SAVE = "save"
LOAD = "load"


@dataclass
class StepBlocks(KVConnectorMetadata):  # type: ignore[misc]
    """The blocks of one step: `live` ones are read, `fresh` ones are first written."""

    live: list[int]
    fresh: list[int]


class HostKvConnector(KVConnectorBase_V1, SupportsHMA):  # type: ignore[misc]
    """Scheduler side of one engine's connector; the worker side has nothing to do.

    A request may carry `kv_transfer_params`. {"save": True} puts its KV into the host pool when it
    finishes and returns {"load": HostKv} with its output. {"load": HostKv} makes an engine of the
    same model start from there. Cache hits across requests are off: a block belongs to one request.

    `_loads` has the host KV of requests that have no blocks yet. `_ready` has the requests whose
    blocks are all on the device; it is emptied when one of the engine's blocks leaves the device,
    which changes the store's count of evictions (`_seen`).
    """

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig
    ) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        self._sizes = [g.kv_cache_spec.block_size for g in kv_cache_config.kv_cache_groups]
        self._loads: dict[str, HostKv] = {}
        self._ready: set[str] = set()
        self._seen = -1

    def attach(self, store: KvStore, engine: str) -> None:
        """Set the store of this engine's blocks; called once, before the first request."""
        self._store = store
        self._engine = engine

    def park(self, request: Request) -> None:
        """Move a running request's KV to the host; it is loaded when the request runs again.

        If the host pool has no room, vLLM recomputes the request.
        """
        ident, tokens = request.request_id, request.num_computed_tokens
        self._ready.discard(ident)
        groups = self._kv_cache_manager.get_block_ids_for_computed_tokens(ident, tokens)
        try:
            if tokens:
                self._loads[ident] = self._store.export(self._engine, groups, tokens)
        except UserError:
            pass

    def forget(self, request: Request) -> None:
        """Give up a running request's KV; vLLM recomputes it when it runs again."""
        self._ready.discard(request.request_id)

    def on_new_request(self, request: Request) -> None:
        """Note the KV that came with a request."""
        kv = (request.kv_transfer_params or {}).get(LOAD)
        if kv is not None:
            self._loads[request.request_id] = kv

    def get_num_new_matched_tokens(
        self, request: Request, num_computed_tokens: int
    ) -> tuple[int, bool]:
        """Return how many tokens the host has, and False: they are loaded before the step."""
        kv = self._loads.get(request.request_id)
        return (0, False) if kv is None or num_computed_tokens else (kv.tokens, False)

    def update_state_after_alloc(
        self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int
    ) -> None:
        """Bind a request's host KV to the blocks that vLLM allocated for it."""
        if num_external_tokens:
            kv = self._loads.pop(request.request_id)
            self._store.adopt(self._engine, blocks.get_block_ids(), kv)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> StepBlocks:
        """List the step's blocks that may not be on the device yet."""
        evictions = self._store.evictions(self._engine)
        if evictions != self._seen:
            self._ready.clear()
            self._seen = evictions
        meta = StepBlocks([], [])
        for new in scheduler_output.scheduled_new_reqs:
            self._add(meta, new.block_ids, new.num_computed_tokens)
            self._ready.add(new.req_id)
        cached = scheduler_output.scheduled_cached_reqs
        for ident, new_ids, computed in zip(
            cached.req_ids, cached.new_block_ids, cached.num_computed_tokens, strict=True
        ):
            if ident not in self._ready:
                self._add(meta, self._kv_cache_manager.get_block_ids(ident), computed)
                self._ready.add(ident)
            elif new_ids is not None:
                meta.fresh += _flat(new_ids)
        return meta

    def request_finished_all_groups(
        self, request: Request, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Put the KV of a request that asked for it into the host pool; forget the request."""
        ident = request.request_id
        self._ready.discard(ident)
        unused = self._loads.pop(ident, None)
        if unused is not None:
            self._store.discard(unused)
        result = None
        if (request.kv_transfer_params or {}).get(SAVE) and not _aborted(request):
            try:
                kv = self._store.export(self._engine, block_ids, request.num_computed_tokens)
                result = {LOAD: kv}
            except UserError:
                # Without KV the decode instance computes the prompt itself: slower, not wrong.
                result = None
        return False, result

    def request_finished(
        self, request: Request, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Do as `request_finished_all_groups`, for an engine with one cache group."""
        return self.request_finished_all_groups(request, (block_ids,))

    def start_load_kv(self, forward_context: ForwardContext, **kwargs: object) -> None:
        """Do nothing: every block was made ready before the step."""

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Do nothing, likewise."""

    def save_kv_layer(
        self,
        layer_name: str,
        kv_layer: torch.Tensor,
        attn_metadata: AttentionMetadata,
        **kwargs: object,
    ) -> None:
        """Do nothing: KV is saved when a request finishes."""

    def wait_for_save(self) -> None:
        """Do nothing, likewise."""

    def _add(self, meta: StepBlocks, groups: tuple[list[int], ...], computed: int) -> None:
        for ids, size in zip(groups, self._sizes, strict=True):
            written = math.ceil(computed / size)
            meta.live += [block for block in ids[:written] if block != NULL_BLOCK]
            meta.fresh += ids[written:]
            if NULL_BLOCK in ids[:written]:
                meta.fresh.append(NULL_BLOCK)


def _flat(groups: tuple[list[int], ...]) -> list[int]:
    return list(_each(groups))


def _each(groups: tuple[list[int], ...]) -> Iterator[int]:
    for ids in groups:
        yield from ids


def _aborted(request: Request) -> bool:
    return bool(request.status.name == "FINISHED_ABORTED")
