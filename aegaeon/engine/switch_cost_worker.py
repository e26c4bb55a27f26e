"""The part of `switch_cost.py` that runs in processes of its own: engines leave state in theirs.

Light until a function runs: a new process must not have paid for imports that it is to measure.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aegaeon.core import ModelSpec
from aegaeon.engine.options import SwitchCostOptions

if TYPE_CHECKING:
    from aegaeon.engine.switch_bench import SwitchBench

# Two weight slots must be full of others before each switch.
MIN_MODELS = 3

_benches: list[SwitchBench] = []


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to measure and its checkpoint; `max_len` is in tokens."""

    spec: ModelSpec
    path: str
    dtype: str
    max_len: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one way (a key of `switch_cost.STAGES`) for a model to get ready."""

    way: str
    model: str
    seconds: float
    nbytes: int


def fresh_engine(candidate: Candidate, options: SwitchCostOptions) -> list[Sample]:
    """Do in this new process what a plain deployment does: import vLLM, load a model's engine."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    began = time.perf_counter()
    from vllm import LLM

    imported = time.perf_counter()
    LLM(
        model=candidate.path,
        dtype=candidate.dtype,
        max_model_len=candidate.max_len,
        block_size=options.block_size,
        kv_cache_memory_bytes=options.kv_bytes,
        enforce_eager=True,
    )
    ready = time.perf_counter()
    size = int(candidate.spec.weight_bytes)
    return [
        Sample("process", candidate.spec.name, ready - began, size),
        Sample("engine", candidate.spec.name, ready - imported, size),
    ]


def open_bench(
    models: Sequence[ModelSpec], options: SwitchCostOptions, folder: Path
) -> list[Candidate]:
    """Find or build the checkpoints (below `folder`) and make an engine per model in this process.

    Returns what was made. Raises UserError for a model that cannot be loaded.
    """
    from aegaeon.engine.switch_bench import SwitchBench, candidates

    found = candidates(models, options, folder)
    _benches.append(SwitchBench(found, options))
    return found


def measure_round(repeats: int) -> list[Sample]:
    """Measure `repeats` times every way that needs no new engine."""
    return [sample for _ in range(repeats) for sample in _benches[0].measure()]


def close_bench() -> None:
    """Give shared memory back."""
    while _benches:
        _benches.pop().close()
