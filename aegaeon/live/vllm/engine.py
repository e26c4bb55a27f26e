"""vLLM's engine on leased memory: making one, using one, giving its memory back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from vllm import SamplingParams
from vllm.config import KVTransferConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.llm_engine import LLMEngine

from aegaeon.live.tp.messages import RemoveEngine
from aegaeon.live.vllm.connector import HostKvConnector
from aegaeon.live.vllm.executor import EngineExecutor
from aegaeon.live.vllm.lease import KEY, Lease, collect, leasing
from aegaeon.live.vllm.scheduler import EngineScheduler
from aegaeon.live.vllm.worker import EngineWorker

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_utils import KVCacheBlock

# What vLLM raises for a request that it cannot serve.
REFUSALS = (ValueError, TypeError, VLLMValidationError)

# More blocks than a turn usually adds; the time to choose them grows with their number.
_BLOCKS_PER_TURN = 128


@dataclass(frozen=True, slots=True)
class ModelEngineOptions:
    """How an engine is made; `extra` holds further arguments of vLLM's `EngineArgs`.

    `max_model_len` and `block_size` are in tokens.
    """

    dtype: str = "auto"
    max_model_len: int | None = None
    block_size: int | None = None
    max_num_seqs: int = 256
    enforce_eager: bool = True
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


def make_llm(lease: Lease, options: ModelEngineOptions) -> LLMEngine:
    """Make vLLM's engine in this process on leased memory, its weights loaded and active."""
    try:
        with leasing(lease):
            llm = LLMEngine.from_engine_args(EngineArgs(**_arguments(lease, options)))
    except Exception:
        release_memory(lease, None)
        raise
    # An engine that is collected tears down process-wide state that the other engines use.
    llm.engine_core._finalizer.detach()
    core = llm.engine_core.engine_core
    core.scheduler.connector.attach(lease.pool.store, lease.name)
    lease.pool.store.on_full(lease.name, core.scheduler.give_up_blocks)
    lease.block_pool = core.scheduler.kv_cache_manager.block_pool
    _report_frees(lease.block_pool, lease)
    # Hashes serve prefix caching only.
    core.request_block_hasher = None
    return llm


def _arguments(lease: Lease, options: ModelEngineOptions) -> dict[str, Any]:
    """Return the arguments of vLLM's `EngineArgs`; prefix caching is off (see `ModelEngine`)."""
    return {
        "model": str(lease.path),
        "skip_tokenizer_init": not (lease.path / "tokenizer_config.json").exists(),
        "dtype": options.dtype,
        "max_model_len": options.max_model_len,
        "block_size": options.block_size,
        "max_num_seqs": options.max_num_seqs,
        "enforce_eager": options.enforce_eager,
        "seed": options.seed,
        "kv_cache_memory_bytes": lease.pool.kv_bytes,
        "enable_prefix_caching": False,
        "async_scheduling": False,
        "disable_log_stats": True,
        "tensor_parallel_size": lease.pool.ranks.size,
        "distributed_executor_backend": EngineExecutor,
        "worker_cls": f"{EngineWorker.__module__}.{EngineWorker.__name__}",
        "scheduler_cls": EngineScheduler,
        "kv_transfer_config": KVTransferConfig(
            kv_connector=HostKvConnector.__name__,
            kv_connector_module_path=HostKvConnector.__module__,
            kv_role="kv_both",
        ),
        "additional_config": {KEY: lease.key},
        **options.extra,
    }


def release_memory(lease: Lease, config: VllmConfig | None) -> None:
    """Give back an engine's memory on all ranks; the caller has deleted vLLM's engine."""

    def here(call: RemoveEngine) -> None:
        lease.pool.remove(call.name)
        collect(config)

    lease.block_pool = None
    lease.pool.ranks.call(RemoveEngine(lease.key, lease.name), here)


def scheduler_of(llm: LLMEngine) -> EngineScheduler:
    """Return an engine's scheduler."""
    return llm.engine_core.engine_core.scheduler  # type: ignore[no-any-return]


def _report_frees(block_pool: BlockPool, lease: Lease) -> None:
    """Let the store forget every block that vLLM frees, for whatever reason."""
    free = block_pool.free_blocks

    def free_and_report(ordered_blocks: Iterable[KVCacheBlock]) -> None:
        blocks = list(ordered_blocks)
        free(blocks)
        freed = [b.block_id for b in blocks if not (b.ref_cnt or b.is_null)]
        lease.pool.store.drop(lease.name, freed)

    block_pool.free_blocks = free_and_report


def prefer_unobstructed(lease: Lease) -> None:
    """Make vLLM allocate first those free blocks in whose bytes no other engine has data."""
    if lease.block_pool is None:
        raise RuntimeError(f"model {lease.name} has no engine yet")
    blocks = lease.block_pool.blocks
    clear = lease.pool.kv.unobstructed(lease.name, range(1, len(blocks))).tolist()
    free = (blocks[i] for i in clear if not blocks[i].ref_cnt)
    chosen = list(islice(free, _BLOCKS_PER_TURN))
    queue = lease.block_pool.free_block_queue
    for block in chosen:
        queue.remove(block)
    queue.prepend_n(chosen)


def sampling_params(values: Mapping[str, Any], transfer: object | None) -> SamplingParams:
    """Build vLLM's parameters from names and values; `transfer` is for the KV connector."""
    values = dict(values)
    if transfer is not None:
        values["extra_args"] = {**values.get("extra_args", {}), "kv_transfer_params": transfer}
    if isinstance(values.get("structured_outputs"), Mapping):
        values["structured_outputs"] = StructuredOutputsParams(**values["structured_outputs"])
    return SamplingParams(**values, output_kind=RequestOutputKind.DELTA)
