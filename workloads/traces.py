"""Replaying a public trace on the market's models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aegaeon.core import ModelSpec
from aegaeon.errors import UserError
from workloads.arrivals import Arrivals, build_arrivals
from workloads.cache import cached, cut
from workloads.checks import require_choice, require_market, require_positive
from workloads.lengths import scale_lengths
from workloads.popularity import SKEWS, popularity
from workloads.readers import artifact, conversations
from workloads.readers.conversations import TokenCount, estimate_tokens
from workloads.readers.tables import LAYOUTS, read_table
from workloads.readers.times import UNITS
from workloads.readers.trace import Trace
from workloads.streams import Purpose, stream

CONVERSATIONS = ("lmsys", "sharegpt", "vllm")
FORMATS = tuple(sorted(("artifact", *LAYOUTS, *CONVERSATIONS)))


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a file, where its format leaves a choice.

    Attributes:
        time_unit: one of `UNITS`; empty takes the format's own unit.
        skip_empty: leave out rows without prompt or answer tokens, instead of refusing them.
        count_tokens: how texts are counted.
    """

    time_unit: str = ""
    skip_empty: bool = False
    count_tokens: TokenCount = estimate_tokens


def read_trace(
    path: Path,
    format: str,
    total_rps: float = 0.0,
    seed: int = 0,
    reading: Reading = Reading(),
    window: tuple[float, float] | None = None,
) -> Trace:
    """Read a trace in one of `FORMATS`, or what arrives in a window (seconds from, until).

    Arrivals of a file without times are drawn by `seed` at `total_rps` requests/s in all, which no
    other file takes. A large file is kept in a cache. Raises `UserError` on an unknown format, a
    rate that the file does not take or lacks, or a malformed file.
    """
    trace = read_rows(path, format, reading, window)
    if trace.timed and total_rps:
        raise UserError(
            f"workload.rate_rps: {path} has arrival times of its own; leave the key at 0 and set "
            "workload.rate_scale"
        )
    return trace if trace.timed else cut(_drawn(path, trace, total_rps, seed), window)


def read_rows(
    path: Path, format: str, reading: Reading, window: tuple[float, float] | None = None
) -> Trace:
    """Read a trace as `read_trace` does; without arrivals if the file has no times."""
    require_choice(FORMATS, format=format)
    require_choice(UNITS, time_unit=reading.time_unit)
    if reading.time_unit and format not in LAYOUTS:
        raise UserError(f"workload.time_unit: format {format} has one unit; leave the key empty")
    if reading.count_tokens is not estimate_tokens:
        return cut(_parsed(path, format, reading), window)
    how = f"{format}-{reading.time_unit}-{reading.skip_empty:d}"
    return cached(path, how, lambda: _parsed(path, format, reading), window)


def _parsed(path: Path, format: str, reading: Reading) -> Trace:
    if format == "artifact":
        return artifact.read_artifact(path)
    if format == "vllm":
        return conversations.read_vllm(path, reading.count_tokens)
    if format in CONVERSATIONS:
        return conversations.read_conversations(path, reading.count_tokens)
    return read_table(path, LAYOUTS[format], reading.time_unit, reading.skip_empty)


def _drawn(path: Path, trace: Trace, total_rps: float, seed: int) -> Trace:
    """Return the requests in an order drawn by `seed`, with Poisson arrivals."""
    if not total_rps:
        raise UserError(
            f"workload.rate_rps: {path} has no arrival times; set it to requests/s per model"
        )
    require_positive(rate_rps=total_rps)
    rng = stream(seed, Purpose.CONVERSATIONS)
    order = rng.permutation(len(trace))
    times = np.cumsum(rng.standard_exponential(len(trace))) / total_rps
    labels = None if trace.labels is None else trace.labels[order]
    columns = (trace.inputs[order], trace.outputs[order])
    return replace(trace, arrivals=times, inputs=columns[0], outputs=columns[1], labels=labels)


def replay(
    path: Path,
    format: str,
    models: Sequence[ModelSpec],
    duration_s: float | None = None,
    rate_scale: float = 1.0,
    input_scale: float = 1.0,
    output_scale: float = 1.0,
    seed: int = 0,
    assign: str = "uniform",
    rate_rps: float = 0.0,
    start_s: float = 0.0,
    reading: Reading = Reading(),
) -> Arrivals:
    """Return a trace's arrivals on `models` in order of time, with request ids 0..n-1.

    An artifact CSV names its models by number; the requests of other traces are dealt to models
    at random by the popularity `assign` (`uniform`, `zipf` or `market`). What arrives `start_s`
    seconds into the trace arrives at 0; `rate_scale` divides the times after that; `duration_s`
    then keeps what arrives before it. Lengths are the request's own, scaled, and clipped at the
    model's max_len. `rate_rps` is the mean rate of one model (requests/s): a file without times
    needs it; 0 means not set. Raises `UserError` on a malformed file or a value out of range.
    """
    require_market(models)
    require_choice(SKEWS, assign=assign)
    require_positive(rate_scale=rate_scale, input_scale=input_scale, output_scale=output_scale)
    window = _window(start_s, duration_s, rate_scale)
    trace = read_trace(path, format, rate_rps * len(models), seed, reading, window)
    if start_s and start_s > trace.end_s:
        raise UserError(
            f"workload.start_s: expected at most {trace.end_s:g}, the last arrival of {path}, "
            f"got {start_s:g}"
        )
    if format == "artifact" and trace.labels is not None:
        index = _numbered(path, list(trace.labels), len(models))
    else:
        index = _dealt(trace, len(models), assign, seed)
    arrivals = (trace.arrivals - start_s) / rate_scale
    inputs = scale_lengths(trace.inputs, input_scale)
    outputs = scale_lengths(trace.outputs, output_scale)
    return build_arrivals(models, index, arrivals, inputs, outputs, trace.skipped)


def _window(start_s: float, duration_s: float | None, rate_scale: float) -> tuple[float, float]:
    """Return the begin and the end of the window in the trace's own seconds."""
    if not 0 <= start_s < np.inf:
        raise UserError(f"workload.start_s: expected a finite number >= 0, got {start_s}")
    if duration_s is None:
        return start_s, np.inf
    require_positive(duration_s=duration_s)
    return start_s, start_s + duration_s * rate_scale


def _numbered(path: Path, labels: list[str], count: int) -> NDArray[np.int64]:
    numbers = {label: artifact.model_number(label) for label in sorted(set(labels))}
    largest = max(numbers, key=lambda label: numbers[label])
    if numbers[largest] >= count:
        raise UserError(
            f"{path}: model {largest!r} needs a market of at least {numbers[largest] + 1} models, "
            f"got {count}; raise models.count"
        )
    return np.array([numbers[label] for label in labels], dtype=np.int64)


def _dealt(trace: Trace, count: int, assign: str, seed: int) -> NDArray[np.int64]:
    """Return a model for each request; a request has the same one in any window."""
    rng = stream(seed, Purpose.ASSIGNMENT)
    ranks = rng.permutation(count)
    drawn = rng.choice(count, size=trace.first + len(trace), p=popularity(count, assign))
    return ranks[drawn[trace.first :]]
