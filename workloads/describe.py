"""What a trace file holds, in numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workloads.readers.trace import Trace
from workloads.traces import Reading, read_rows

_LEVELS = (0.5, 0.9, 0.99, 1.0)
_LABELS = 20


def describe_trace(
    path: Path,
    format: str,
    reading: Reading = Reading(),  # noqa: B008
) -> dict[str, str]:
    """Return lines of text about a trace file, by their names; raises as `read_trace` does."""
    return _facts(read_rows(path, format, reading))


def _facts(trace: Trace) -> dict[str, str]:
    found = {"requests": f"{len(trace)}", "rows skipped": f"{trace.skipped}"}
    if trace.timed:
        span = float(trace.arrivals[-1] - trace.arrivals[0])
        gaps = np.diff(trace.arrivals)
        found["first and last arrival"] = f"{trace.arrivals[0]:g} s, {trace.arrivals[-1]:g} s"
        if span > 0:
            found["mean rate"] = f"{len(gaps) / span:.6g} requests/s"
            found["gaps"] = f"mean {gaps.mean():.6g} s, variation {gaps.std() / gaps.mean():.3g}"
    else:
        found["arrivals"] = "none in the file; workload.rate_rps draws them"
    found["input tokens"] = _lengths(trace.inputs)
    found["output tokens"] = _lengths(trace.outputs)
    if trace.labels is not None:
        counts = trace.labels.value_counts().sort_values(ascending=False)
        shown = [f"{name} {count}" for name, count in counts.head(_LABELS).items()]
        more = [f"… {len(counts) - _LABELS} more"] if len(counts) > _LABELS else []
        found[f"{len(counts)} models"] = ", ".join([*shown, *more])
    return found


def _lengths(tokens: NDArray[np.int64]) -> str:
    p50, p90, p99, most = np.quantile(tokens, _LEVELS)
    return f"mean {tokens.mean():.1f}, p50 {p50:.0f}, p90 {p90:.0f}, p99 {p99:.0f}, max {most:.0f}"
