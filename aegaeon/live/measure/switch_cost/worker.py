"""The part of `switch_cost.py` that runs in processes of its own: engines leave state in theirs.

Light until a function runs: a new process must not have paid for imports that it is to measure.
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
    """Do in this new process what a plain deployment does: import vLLM, load a model's engine."""
    imported_s, ready_s = load_afresh(candidate.path, candidate.dtype, candidate.max_len, options)
    size = int(candidate.spec.weight_bytes)
    return [
        SwitchSample("process", candidate.spec.name, ready_s, size),
        SwitchSample("engine", candidate.spec.name, ready_s - imported_s, size),
    ]


def open_bench(
    models: Sequence[ModelSpec], options: SwitchCostOptions, folder: Path
) -> list[Candidate]:
    """Find or build the checkpoints (below `folder`) and make an engine per model in this process.

    Returns what was made. Raises UserError for a model that cannot be loaded.
    """
    from aegaeon.live.measure.switch_cost.ways import SwitchBench, candidates

    found = candidates(models, options, folder)
    _benches.append(SwitchBench(found, options))
    return found


def measure_round(repeats: int) -> list[SwitchSample]:
    """Measure `repeats` times every way that needs no new engine."""
    return [sample for _ in range(repeats) for sample in _benches[0].measure()]


def close_bench() -> None:
    """Give shared memory back."""
    while _benches:
        _benches.pop().close()
