"""A worker process that dies, for lack of memory or by a signal, costs its job and no other.

The executor behind Hydra's joblib launcher ends all workers when one dies, and does not tell which
job was to blame. The launcher is therefore asked again: first for each job that was in flight,
alone, then for the jobs that had not begun. A job that dies alone is to blame.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus

from aegaeon.experiment import notes

Jobs = Sequence[Sequence[str]]
Launch = Callable[[Jobs, int], Sequence[JobReturn]]
_JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"


@contextmanager
def surviving() -> Iterator[None]:
    """Let the joblib launcher go on after the death of a worker. Hydra has no hook for that."""
    launcher = launcher_class()
    before = launcher.launch

    def launch(self: object, job_overrides: Jobs, initial_job_idx: int) -> Sequence[JobReturn]:
        return _go_on(partial(before, self), job_overrides, initial_job_idx)

    launcher.launch = launch
    try:
        yield
    finally:
        launcher.launch = before


def launcher_class() -> Any:  # noqa: ANN401
    """Return the class that Hydra instantiates. An import may give another object of its name."""
    return Plugins.instance().class_name_to_class[_JOBLIB]


def _go_on(launch: Launch, job_overrides: Jobs, initial_job_idx: int) -> list[JobReturn]:
    """Launch the jobs as the joblib launcher does; a job without a worker returns NaN."""
    returned = {number: _nothing(job) for number, job in enumerate(job_overrides)}
    left = list(returned)
    while left:
        done, broken = _attempt(launch, job_overrides, left, initial_job_idx)
        returned |= done
        if broken is None:
            break
        begun, ended = ({left[number - initial_job_idx] for number in m} for m in notes.marks())
        # Workers that die before they begin a job would do so for ever.
        for number in sorted(begun - ended) if begun else left:
            done, broken = _attempt(launch, job_overrides, [number], initial_job_idx)
            returned |= done
            if broken is not None:
                notes.leave(_death(job_overrides[number], broken))
        left = [number for number in left if number not in begun] if begun else []
    return list(returned.values())


def _attempt(
    launch: Launch, jobs: Jobs, chosen: Sequence[int], first: int
) -> tuple[dict[int, JobReturn], BrokenProcessPool | None]:
    """Launch the chosen jobs; return what they returned, or the death of a worker."""
    notes.marks()
    try:
        returns = launch([jobs[number] for number in chosen], first)
    except BrokenProcessPool as error:
        return {}, error
    return dict(zip(chosen, returns, strict=True)), None


def _nothing(overrides: Sequence[str]) -> JobReturn:
    """Return the outcome of a job whose outcome was lost: a sweeper that optimises gets NaN."""
    return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=math.nan)


def _death(overrides: Sequence[str], error: BrokenProcessPool) -> notes.Note:
    codes = re.findall(r"\{(.*?)\}", str(error))
    how = f" by {codes[-1]}" if codes else ""
    return {
        "job": "",
        "status": "failed",
        "user": False,
        "error": f"{' '.join(overrides)}: the worker process was killed{how}. If the machine ran "
        "out of memory, run with fewer workers: hydra.launcher.n_jobs=2",
    }
