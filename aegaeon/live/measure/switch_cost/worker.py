"""The functions of `run` that run in other processes, because engines leave state behind.

torch and vLLM are imported inside functions only, because a new process measures the imports.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aegaeon.core import ModelSpec
from aegaeon.live.measure.switch_cost.samples import Candidate, SwitchSample
from aegaeon.live.options import SwitchCostOptions
from aegaeon.live.vllm.fresh import load_afresh

if TYPE_CHECKING:
    from aegaeon.live.measure.switch_cost.ways import SwitchBench

_benches: list[SwitchBench] = []


def fresh_engine(candidate: Candidate, options: SwitchCostOptions) -> list[SwitchSample]:
    """Import vLLM and load a model's engine, as a plain deployment does in a new process."""
    imported_s, ready_s = load_afresh(candidate.path, candidate.dtype, candidate.max_len, options)
    size = int(candidate.spec.weight_bytes)
    return [
        SwitchSample("process", candidate.spec.name, ready_s, size),
        SwitchSample("engine", candidate.spec.name, ready_s - imported_s, size),
    ]


def open_bench(
    models: Sequence[ModelSpec], options: SwitchCostOptions, folder: Path
) -> list[Candidate]:
    """Find or build the checkpoints (below `folder`), and make an engine per model in this process.

    Returns the models with their checkpoints. Raises UserError for a model that cannot be loaded.
    """
    from aegaeon.live.measure.switch_cost.ways import SwitchBench, candidates

    found = candidates(models, options, folder)
    _benches.append(SwitchBench(found, options))
    return found


def measure_round(repeats: int) -> list[SwitchSample]:
    """Measure `repeats` times each way that needs no new engine."""
    return [sample for _ in range(repeats) for sample in _benches[0].measure()]


def close_bench() -> None:
    """Remove the shared memory of `open_bench`."""
    while _benches:
        _benches.pop().close()
