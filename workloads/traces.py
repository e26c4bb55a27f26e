"""Replaying a public trace on the market's models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aegaeon.core import Arrival, ModelSpec
from aegaeon.errors import UserError
from workloads.arrivals import build_arrivals
from workloads.checks import require_choice, require_market, require_positive
from workloads.lengths import scale_lengths
from workloads.popularity import SKEWS, popularity
from workloads.readers import artifact, azure, burstgpt, mooncake, sharegpt
from workloads.readers.trace import Trace
from workloads.streams import Purpose, stream

READERS: Mapping[str, Callable[[Path], Trace]] = {
    "artifact": artifact.read_artifact,
    "azure": azure.read_azure,
    "burstgpt": burstgpt.read_burstgpt,
    "mooncake": mooncake.read_mooncake,
}
FORMATS = (*READERS, "sharegpt")


def read_trace(
    path: Path,
    format: str,
    total_rps: float = 0.0,
    seed: int = 0,
    count_tokens: sharegpt.TokenCount = sharegpt.estimate_tokens,
) -> Trace:
    """Read a trace in one of `FORMATS`.

    A ShareGPT file has no arrival times: they are drawn by `seed` at `total_rps` requests/s in all,
    which no other format takes. `count_tokens` is for ShareGPT too. Raises `UserError` on an
    unknown format, a rate that the format does not take or lacks, or a malformed file.
    """
    require_choice(FORMATS, format=format)
    if format not in READERS:
        if not total_rps:
            raise UserError(
                f"workload.rate_rps: {path} has no arrival times; set it to requests/s per model"
            )
        return sharegpt.read_sharegpt(path, total_rps, seed, count_tokens)
    if total_rps:
        raise UserError(
            f"workload.rate_rps: {path} has arrival times of its own; leave the key at 0 and set "
            "workload.rate_scale"
        )
    return READERS[format](path)


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
    count_tokens: sharegpt.TokenCount = sharegpt.estimate_tokens,
) -> list[Arrival]:
    """Return a trace's arrivals on `models` in order of time, with request ids 0..n-1.

    An artifact CSV names its models by number; the requests of other traces are dealt to models
    at random by the popularity `assign` (`uniform`, `zipf` or `market`). `rate_scale` divides the
    arrival times; `duration_s` then keeps what arrives before it. Lengths are the request's own,
    scaled, and clipped at the model's max_len. `rate_rps` is the mean rate of one model
    (requests/s): a ShareGPT file needs it, as it has no times; 0 means not set. Raises `UserError`
    on a malformed file or a value out of range.
    """
    require_market(models)
    require_choice(SKEWS, assign=assign)
    require_positive(rate_scale=rate_scale, input_scale=input_scale, output_scale=output_scale)
    trace = read_trace(path, format, rate_rps * len(models), seed, count_tokens)
    if format == "artifact" and trace.labels is not None:
        index = _numbered(path, trace.labels.tolist(), len(models))
    else:
        index = _dealt(len(trace), len(models), assign, seed)
    arrivals = trace.arrivals / rate_scale
    stop = len(arrivals)
    if duration_s is not None:
        require_positive(duration_s=duration_s)
        stop = int(np.searchsorted(arrivals, duration_s, side="left"))
    inputs = scale_lengths(trace.inputs[:stop], input_scale)
    outputs = scale_lengths(trace.outputs[:stop], output_scale)
    return build_arrivals(models, index[:stop], arrivals[:stop], inputs, outputs)


def _numbered(path: Path, labels: list[str], count: int) -> NDArray[np.int64]:
    numbers = {label: artifact.model_number(label) for label in sorted(set(labels))}
    largest = max(numbers, key=lambda label: numbers[label])
    if numbers[largest] >= count:
        raise UserError(
            f"{path}: model {largest!r} needs a market of at least {numbers[largest] + 1} models, "
            f"got {count}; raise models.count"
        )
    return np.array([numbers[label] for label in labels], dtype=np.int64)


def _dealt(n: int, count: int, assign: str, seed: int) -> NDArray[np.int64]:
    rng = stream(seed, Purpose.ASSIGNMENT)
    ranks = rng.permutation(count)
    return ranks[rng.choice(count, size=n, p=popularity(count, assign))]
