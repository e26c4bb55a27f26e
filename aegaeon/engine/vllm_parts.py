"""The parts of vLLM that a shell replaces; with `connector.py`, all that knows vLLM's insides.

Worker and scheduler classes that vLLM takes by name, and the few patches a CPU needs. An upgrade of
vLLM is checked here.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

# vLLM reads these when it is imported or when the first engine is created.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
# Runner V2 keeps a slot per running request, also for those that wait for their batch's turn.
os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import torch
from torch.overrides import TorchFunctionMode
from vllm import SamplingParams
from vllm.config import KVTransferConfig
from vllm.distributed.kv_transfer.kv_transfer_state import ensure_kv_transfer_shutdown
from vllm.engine.arg_utils import EngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.model_executor.layers import rotary_embedding
from vllm.model_executor.layers import utils as layer_utils
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine.llm_engine import LLMEngine
from vllm.v1.kv_cache_layout import KVCacheLayout

from aegaeon.engine.connector import HostKvConnector
from aegaeon.engine.kv_store import carve
from aegaeon.engine.memory.kv_arena import KvLayout, Segment
from aegaeon.engine.pool import DevicePool

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as PlatformWorker
else:
    from vllm.v1.worker.gpu_worker import Worker as PlatformWorker

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_utils import KVCacheBlock
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.core.single_type_kv_cache_manager import SingleTypeKVCacheManager
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import ModelRunnerOutput
    from vllm.v1.request import Request

# What vLLM raises for a request that it cannot serve.
REFUSALS = (ValueError, TypeError, VLLMValidationError)

_KEY = "aegaeon"
# More than a turn usually adds; choosing costs time in proportion.
_BLOCKS_PER_TURN = 128
_lent: dict[str, Lent] = {}


@dataclass(frozen=True, slots=True)
class ShellOptions:
    """How an engine is made; `extra` holds further arguments of vLLM's `EngineArgs`."""

    dtype: str = "auto"
    max_model_len: int | None = None
    block_size: int | None = None
    max_num_seqs: int = 256
    enforce_eager: bool = True
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Lent:
    """What a worker borrows while its shell is alive; found by key, as vLLM creates the worker."""

    name: str
    path: Path
    pool: DevicePool
    block_pool: BlockPool | None = None

    @property
    def key(self) -> str:
        """A name for this shell that no other pool of the process uses."""
        return f"{self.name}@{id(self.pool):x}"


def create_engine(lent: Lent, options: ShellOptions) -> LLMEngine:
    """Make an engine core in this process on borrowed memory, its weights loaded and active."""
    arguments: dict[str, Any] = {
        "model": str(lent.path),
        "skip_tokenizer_init": not (lent.path / "tokenizer_config.json").exists(),
        "dtype": options.dtype,
        "max_model_len": options.max_model_len,
        "block_size": options.block_size,
        "max_num_seqs": options.max_num_seqs,
        "enforce_eager": options.enforce_eager,
        "seed": options.seed,
        "kv_cache_memory_bytes": lent.pool.kv_bytes,
        "enable_prefix_caching": False,
        "async_scheduling": False,
        "disable_log_stats": True,
        "worker_cls": f"{__name__}.{ShellWorker.__name__}",
        "scheduler_cls": ShellScheduler,
        "kv_transfer_config": KVTransferConfig(
            kv_connector=HostKvConnector.__name__,
            kv_connector_module_path=HostKvConnector.__module__,
            kv_role="kv_both",
        ),
        "additional_config": {_KEY: lent.key},
        **options.extra,
    }
    _lent[lent.key] = lent
    try:
        engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
    finally:
        del _lent[lent.key]
    # The worker side of a connector is one per process, which other engines would trip over; ours
    # has nothing to do.
    ensure_kv_transfer_shutdown()
    # An engine that is collected tears down process-wide state that the other shells use.
    engine.engine_core._finalizer.detach()
    core = engine.engine_core.engine_core
    core.scheduler.connector.attach(lent.pool.store, lent.name)
    lent.block_pool = core.scheduler.kv_cache_manager.block_pool
    _tell_of_frees(lent.block_pool, lent)
    # Hashes serve prefix caching only.
    core.request_block_hasher = None
    return engine


def scheduler_of(engine: LLMEngine) -> ShellScheduler:
    """Return an engine's scheduler."""
    return engine.engine_core.engine_core.scheduler  # type: ignore[no-any-return]


def _tell_of_frees(block_pool: BlockPool, lent: Lent) -> None:
    """Let the store forget every block that vLLM frees, whyever it does."""
    free = block_pool.free_blocks

    def free_and_tell(ordered_blocks: Iterable[KVCacheBlock]) -> None:
        blocks = list(ordered_blocks)
        free(blocks)
        lent.pool.store.drop(
            lent.name, [b.block_id for b in blocks if not (b.ref_cnt or b.is_null)]
        )

    block_pool.free_blocks = free_and_tell


def prefer_unobstructed(lent: Lent) -> None:
    """Make the engine hand out first those free blocks whose bytes no other shell has data in."""
    if lent.block_pool is None:
        raise RuntimeError(f"shell {lent.name} has no engine yet")
    blocks = lent.block_pool.blocks
    easy = lent.pool.store.unobstructed(lent.name, range(1, len(blocks)))
    free = islice((blocks[i] for i in easy if not blocks[i].ref_cnt), _BLOCKS_PER_TURN)
    queue = lent.block_pool.free_block_queue
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


class ShellWorker(PlatformWorker):  # type: ignore[misc]
    """A vLLM worker whose parameters and KV cache are views of a device pool."""

    def __init__(self, vllm_config: VllmConfig, *args: object, **kwargs: object) -> None:
        super().__init__(vllm_config, *args, **kwargs)
        self._lent = _lent[vllm_config.additional_config[_KEY]]

    def load_model(self, **kwargs: object) -> None:
        """Load as vLLM does, then move every tensor to the arena."""
        # vLLM shares rotary tables between models; a tensor can only lie in one model's range.
        rotary_embedding._ROPE_DICT.clear()
        with plain_gemm():
            super().load_model(**kwargs)
        rotary_embedding._ROPE_DICT.clear()
        lent = self._lent
        lent.pool.bind(lent.name, lent.path, self.model_runner.model)

    def determine_available_memory(self) -> int:
        """Return the KV arena's size: it is reserved already, for all shells together."""
        if not current_platform.is_cpu():
            super().determine_available_memory()
        return self._lent.pool.kv_bytes

    def get_supported_kv_cache_layouts(self) -> list[str]:
        """Prefer layouts that keep a block's layers together, so that it is one range of bytes."""
        if current_platform.is_cpu():
            # The kernels take any stride between blocks, though the backend only names one layout.
            return [KVCacheLayout.BLHNC.name]
        names: list[str] = super().get_supported_kv_cache_layouts()
        return sorted(names, key=lambda name: not KVCacheLayout[name].is_block_outermost)

    def initialize_from_config(self, kv_cache_config: KVCacheConfig) -> None:
        """Take the KV cache from the arena and tell the store where each block lies."""
        super().initialize_from_config(kv_cache_config)
        lent = self._lent
        lent.pool.store.add(lent.name, _kv_layout(kv_cache_config))

    def execute_model(self, scheduler_output: SchedulerOutput) -> ModelRunnerOutput | None:
        """Bring the step's blocks to the device, then run it."""
        blocks = scheduler_output.kv_connector_metadata
        if blocks is not None:
            self._lent.pool.store.prepare(self._lent.name, blocks.live, blocks.fresh)
        return super().execute_model(scheduler_output)

    def _maybe_get_memory_pool_context(self, tag: str) -> AbstractContextManager[object]:
        if tag == "kv_cache":
            return _KvFromArena(self._lent)
        context: AbstractContextManager[object] = super()._maybe_get_memory_pool_context(tag)
        return context


class _KvFromArena(TorchFunctionMode):  # type: ignore[misc]
    """vLLM allocates its KV cache with one `torch.zeros` of int8: answer with the arena's bytes."""

    def __init__(self, lent: Lent) -> None:
        super().__init__()
        self._lent = lent

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func is torch.zeros and kwargs.get("dtype") is torch.int8:
            return carve(self._lent.pool.kv, self._lent.name, args[0])
        return func(*args, **kwargs)


class ShellScheduler(Scheduler):  # type: ignore[misc]
    """vLLM's scheduler, which sees only the batch it is told to run.

    A request that has to give up its blocks keeps its KV in the host pool, unless `keep_kv` is off:
    then vLLM recomputes it.
    """

    batch: set[str] | None = None
    keep_kv = True

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.running: list[Request]
        self.ran: frozenset[str] = frozenset()
        self.computed = 0
        self.added: list[str] = []

    def add_request(self, request: Request) -> None:
        """Note the request's internal id: one of several if it asks for n > 1 sequences."""
        super().add_request(request)
        self.added.append(request.request_id)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """Schedule the batch's requests as if there were no others."""
        running, waiting = self._hold_back()
        self._make_room(running, waiting)
        try:
            output = super().schedule(throttle_prefills)
        finally:
            self.running += running
            for request in waiting:
                self.waiting.add_request(request)
        self.ran = frozenset(output.num_scheduled_tokens)
        self.computed = output.total_num_scheduled_tokens
        return output

    def give_up_kv(self, ids: Collection[str]) -> None:
        """Take requests off the device; those with KV in the host pool lose it as well."""
        keep, self.keep_kv = self.keep_kv, False
        for request in [r for r in self.running if r.request_id in ids]:
            self.running.remove(request)
            self._preempt_request(request, time.monotonic())
        self.keep_kv = keep

    def shortage(self, ids: Collection[str] | None) -> int:
        """Return how many blocks the batch's next step needs beyond those it can get."""
        inside = [r for r in self.requests.values() if ids is None or r.request_id in ids]
        held = [] if ids is None else [r for r in self.running if r.request_id not in ids]
        need = sum([self._missing_blocks(r) for r in inside])
        free = self.kv_cache_manager.block_pool.get_num_free_blocks()
        return need - int(free) - sum([self._owned_blocks(r) for r in held])

    def _hold_back(self) -> tuple[list[Request], list[Request]]:
        batch = self.batch
        if batch is None or batch >= self.requests.keys():
            return [], []
        running = [r for r in self.running if r.request_id not in batch]
        waiting = [r for r in self.waiting if r.request_id not in batch]
        if running:
            self.running = [r for r in self.running if r.request_id in batch]
        if waiting:
            self.waiting.remove_requests(waiting)
        return running, waiting

    def _make_room(self, running: list[Request], waiting: list[Request]) -> None:
        """Let requests outside the batch go to the host if they own blocks that it needs."""
        if not running:
            return
        inside = [*self.running, *self.waiting]
        need = sum([self._missing_blocks(r) for r in inside])
        pool = self.kv_cache_manager.block_pool
        while running and pool.get_num_free_blocks() < need:
            request = running.pop()
            self._preempt_request(request, time.monotonic())
            self.waiting.remove_request(request)
            waiting.insert(0, request)

    def _preempt_request(self, request: Request, timestamp: float, **kwargs: object) -> None:
        (self.connector.park if self.keep_kv else self.connector.forget)(request)
        super()._preempt_request(request, timestamp, **kwargs)

    def _missing_blocks(self, request: Request) -> int:
        managers = self.kv_cache_manager.coordinator.single_type_managers
        return sum(
            [
                max(0, -(-request.num_tokens // m.block_size) - self._owned(m, request))
                for m in managers
            ]
        )

    def _owned_blocks(self, request: Request) -> int:
        managers = self.kv_cache_manager.coordinator.single_type_managers
        return sum([self._owned(m, request) for m in managers])

    @staticmethod
    def _owned(manager: SingleTypeKVCacheManager, request: Request) -> int:
        return len(manager.req_to_blocks.get(request.request_id, ()))


def _kv_layout(config: KVCacheConfig) -> KvLayout:
    first = config.kv_cache_tensors[0]
    if first.block_stride > first.layer_stride or len(first.layers) == 1:
        # Block-outermost: cache groups overlay each other, and a block has one owner at a time.
        return KvLayout(config.num_blocks, (Segment(0, first.block_stride, first.block_stride),))
    layouts = [
        KvLayout.of_layers(
            config.num_blocks,
            t.block_stride,
            len(t.layers),
            t.layer_stride,
            t.block_stride,
            t.offset,
        )
        for t in config.kv_cache_tensors
    ]
    joined = layouts[0]
    for layout in layouts[1:]:
        joined = joined + layout
    return joined


@contextlib.contextmanager
def plain_gemm() -> Iterator[None]:
    """Keep CPU layers from repacking their weights into private memory, where no switch reaches."""

    def plain(layer: torch.nn.Module, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    name = "dispatch_cpu_unquantized_gemm"
    original: Callable[..., None] = getattr(layer_utils, name)
    setattr(layer_utils, name, plain)
    try:
        yield
    finally:
        setattr(layer_utils, name, original)
