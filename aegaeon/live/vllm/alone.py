"""vLLM's own engine of one model: the reference to which pooled engines are compared."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from vllm.engine.arg_utils import EngineArgs
from vllm.v1.engine.llm_engine import LLMEngine as LLMEngine

from aegaeon.live.vllm.engine import ModelEngineOptions
from aegaeon.live.vllm.gemm import packed_gemm


def alone(path: Path, options: ModelEngineOptions, kv_bytes: int, our_kernels: bool) -> LLMEngine:
    """Make vLLM's own engine with the settings of a pooled one.

    `kv_bytes` is the size of its KV cache. With `our_kernels` its layers on a CPU multiply by
    packed weights, as those of a pooled engine do.
    """
    arguments = EngineArgs(
        model=str(path),
        dtype=options.dtype,
        max_model_len=options.max_model_len,
        block_size=options.block_size,
        max_num_seqs=options.max_num_seqs,
        enforce_eager=True,
        enable_prefix_caching=False,
        async_scheduling=False,
        kv_cache_memory_bytes=kv_bytes,
        disable_log_stats=True,
    )
    with packed_gemm() if our_kernels else nullcontext():
        engine = LLMEngine.from_engine_args(arguments)
    # An engine that is collected tears down process-wide state that the other engines use.
    engine.engine_core._finalizer.detach()
    return engine
