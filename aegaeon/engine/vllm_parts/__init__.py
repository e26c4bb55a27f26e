"""The parts of vLLM that a shell replaces; with `connector.py`, all that knows vLLM's insides.

Worker, executor and scheduler classes that vLLM takes, and the few patches a CPU needs. An upgrade
of vLLM is checked here.
"""

from __future__ import annotations

import os

# vLLM reads these when it is imported or when the first engine is created.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
# Runner V2 keeps a slot per running request, also for those that wait for their batch's turn.
os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from aegaeon.engine.vllm_parts.adapters import Adapters
from aegaeon.engine.vllm_parts.engine import (
    REFUSALS,
    ShellOptions,
    create_engine,
    prefer_unobstructed,
    release_memory,
    sampling_params,
    scheduler_of,
)
from aegaeon.engine.vllm_parts.gemm import pack_again, packed_gemm, plain_gemm
from aegaeon.engine.vllm_parts.worker import Lent

__all__ = [
    "REFUSALS",
    "Adapters",
    "Lent",
    "ShellOptions",
    "create_engine",
    "pack_again",
    "packed_gemm",
    "plain_gemm",
    "prefer_unobstructed",
    "release_memory",
    "sampling_params",
    "scheduler_of",
]
