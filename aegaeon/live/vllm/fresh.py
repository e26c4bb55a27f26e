"""What a plain deployment does in a new process: import vLLM, then load one model."""

from __future__ import annotations

import time

from aegaeon.live.options import SwitchCostOptions


def load_afresh(
    path: str, dtype: str, max_len: int, options: SwitchCostOptions
) -> tuple[float, float]:
    """Return the seconds until vLLM is imported and until the engine is ready.

    The import of vLLM is part of the measured time, so it is inside this function.
    """
    began = time.perf_counter()
    from vllm import LLM

    imported = time.perf_counter()
    LLM(
        model=path,
        dtype=dtype,
        max_model_len=max_len,
        block_size=options.block_size,
        kv_cache_memory_bytes=options.kv_bytes,
        enforce_eager=True,
    )
    return imported - began, time.perf_counter() - began
