"""The cost of a model switch, before and after each optimisation (paper figure 7).

The ways range from a new process with a plain engine to a prefetched switch. One memcpy of the same
bytes is the physical limit. Every round measures all ways, in processes that do nothing else.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from aegaeon.core import ModelSpec
from aegaeon.errors import UserError
from aegaeon.live.logs import write_output_to
from aegaeon.live.measure.switch_cost.samples import MIN_MODELS, Candidate, SwitchSample
from aegaeon.live.measure.switch_cost.worker import (
    close_bench,
    fresh_engine,
    measure_round,
    open_bench,
)
from aegaeon.live.memory.cleanup import remove_leftovers
from aegaeon.live.options import SwitchCostOptions
from aegaeon.runlog import StageCost

T = TypeVar("T")

STAGES = {
    "process": ("new process", "imports of torch and vLLM, then a plain vLLM engine"),
    "engine": ("re-initialisation", "a plain vLLM engine in a new process, after its imports"),
    "files": ("checkpoint files", "engine kept, weights read from files in the page cache"),
    "tensors": ("host copy by tensor", "engine kept, every tensor copied from host memory"),
    "packed": ("packed arena", "engine kept, one copy of the packed host bytes"),
    "prefetched": ("prefetched", "bytes on the device: views re-pointed (CPU), copied (CUDA)"),
    "memcpy": ("memcpy", "one copy of as many bytes, nothing else"),
}


def switch_costs(
    models: Sequence[ModelSpec], options: SwitchCostOptions, folder: Path
) -> list[StageCost]:
    """Return every measurement, by round.

    The output of the processes goes to `folder`/logs. Raises UserError for models that cannot be
    loaded, and for a process that died.
    """
    if len(models) < MIN_MODELS or options.rounds < 1 or options.repeats < 1:
        raise UserError(
            f"backend: switch_cost needs {MIN_MODELS} models or more and rounds and repeats of at "
            f"least 1, got {len(models)}, {options.rounds}, {options.repeats}"
        )
    log = folder / "logs" / "switch_cost.log"
    try:
        rounds = _measure(models, options, log)
    except BrokenProcessPool as error:
        raise UserError(f"backend: a process of switch_cost died; see {log}") from error
    finally:
        # A killed process has left shared memory.
        remove_leftovers()
    return _stages(rounds, {model.name: model.type for model in models})


def _measure(
    models: Sequence[ModelSpec], options: SwitchCostOptions, log: Path
) -> list[list[SwitchSample]]:
    total = options.rounds * (len(models) + 1) + 1
    with (
        tempfile.TemporaryDirectory(prefix="aegaeon-") as scratch,
        _keeper(log) as keeper,
        Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress,
    ):
        task = progress.add_task("engines", total=total)
        found = _result(keeper.submit(open_bench, models, options, Path(scratch)))
        rounds = []
        for i in range(options.rounds):
            samples = []
            for candidate in found:
                text = f"round {i + 1}: new process, {candidate.spec.type}"
                progress.update(task, advance=1, description=text)
                samples += _in_new_process(candidate, options, log)
            progress.update(task, advance=1, description=f"round {i + 1}: switches")
            samples += _result(keeper.submit(measure_round, options.repeats))
            rounds.append(samples)
        return rounds


@contextmanager
def _keeper(log: Path) -> Iterator[ProcessPoolExecutor]:
    """Yield a process that keeps the engines from one round to the next."""
    with _new_process(log) as process:
        try:
            yield process
        finally:
            with suppress(BrokenProcessPool):
                process.submit(close_bench).result()


def _in_new_process(
    candidate: Candidate, options: SwitchCostOptions, log: Path
) -> list[SwitchSample]:
    with _new_process(log) as process:
        return _result(process.submit(fresh_engine, candidate, options))


def _result(future: Future[T]) -> T:
    """Wait for a process's result; kill the process if a signal interrupts the wait."""
    try:
        return future.result()
    except Exception:
        raise
    except BaseException:
        # A process that is not killed finishes its engine first, which takes long.
        for process in multiprocessing.active_children():
            process.kill()
        raise


def _new_process(log: Path) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, context, write_output_to, (log,))


def _stages(rounds: Sequence[Sequence[SwitchSample]], types: dict[str, str]) -> list[StageCost]:
    order = {way: i for i, way in enumerate(STAGES)}
    return [
        StageCost(
            stage=STAGES[sample.way][0],
            order=order[sample.way],
            model=types[sample.model],
            seconds=sample.seconds,
            nbytes=sample.nbytes,
            note=STAGES[sample.way][1],
            round=i,
        )
        for i, samples in enumerate(rounds)
        for sample in samples
    ]
