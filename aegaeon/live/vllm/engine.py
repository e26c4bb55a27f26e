"""A vLLM engine core whose memory is leased: making one, using one, giving its memory back."""

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

from aegaeon.live.vllm.connector import HostKvConnector
from aegaeon.live.vllm.executor import EngineExecutor
from aegaeon.live.vllm.scheduler import EngineScheduler
from aegaeon.live.vllm.worker import KEY, EngineWorker, Lease, collect, leasing

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_utils import KVCacheBlock

# What vLLM raises for a request that it cannot serve.
REFUSALS = (ValueError, TypeError, VLLMValidationError)

# More than a turn usually adds; choosing costs time in proportion.
_BLOCKS_PER_TURN = 128


@dataclass(frozen=True, slots=True)
class ModelEngineOptions:
    """How an engine is made; `extra` holds further arguments of vLLM's `EngineArgs`."""

    dtype: str = "auto"
    max_model_len: int | None = None
    block_size: int | None = None
    max_num_seqs: int = 256
    enforce_eager: bool = True
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


def create_engine(lease: Lease, options: ModelEngineOptions) -> LLMEngine:
    """Make an engine core in this process on borrowed memory, its weights loaded and active."""
    arguments: dict[str, Any] = {
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
    try:
        with leasing(lease):
            engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
    except Exception:
        release_memory(lease, None)
        raise
    # An engine that is collected tears down process-wide state that the other engines use.
    engine.engine_core._finalizer.detach()
    core = engine.engine_core.engine_core
    core.scheduler.connector.attach(lease.pool.store, lease.name)
    lease.pool.store.on_full(lease.name, core.scheduler.give_up_blocks)
    lease.block_pool = core.scheduler.kv_cache_manager.block_pool
    _tell_of_frees(lease.block_pool, lease)
    # Hashes serve prefix caching only.
    core.request_block_hasher = None
    return engine


def release_memory(lease: Lease, config: VllmConfig | None) -> None:
    """Give back what an engine has of the instance's memory, on all ranks; its engine is gone."""

    def local() -> None:
        lease.pool.remove(lease.name)
        collect(config)

    lease.block_pool = None
    lease.pool.ranks.call("remove", lease.key, lease.name, local=local)


def scheduler_of(engine: LLMEngine) -> EngineScheduler:
    """Return an engine's scheduler."""
    return engine.engine_core.engine_core.scheduler  # type: ignore[no-any-return]


def _tell_of_frees(block_pool: BlockPool, lease: Lease) -> None:
    """Let the store forget every block that vLLM frees, whyever it does."""
    free = block_pool.free_blocks

    def free_and_tell(ordered_blocks: Iterable[KVCacheBlock]) -> None:
        blocks = list(ordered_blocks)
        free(blocks)
        lease.pool.store.drop(
            lease.name, [b.block_id for b in blocks if not (b.ref_cnt or b.is_null)]
        )

    block_pool.free_blocks = free_and_tell


def prefer_unobstructed(lease: Lease) -> None:
    """Make the engine hand out first those free blocks whose bytes no other engine has data in."""
    if lease.block_pool is None:
        raise RuntimeError(f"model {lease.name} has no engine yet")
    blocks = lease.block_pool.blocks
    easy = lease.pool.store.unobstructed(lease.name, range(1, len(blocks)))
    free = islice((blocks[i] for i in easy if not blocks[i].ref_cnt), _BLOCKS_PER_TURN)
    queue = lease.block_pool.free_block_queue
    chosen = list(free)
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
