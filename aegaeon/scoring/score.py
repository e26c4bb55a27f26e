"""One scorer for every system: token timelines in, attainment out (formulas in docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aegaeon.core import Slo

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
_CHUNK_TOKENS = 4_000_000


@dataclass(frozen=True, slots=True)
class Timelines:
    """Every token's time, run-length encoded, ordered by request and then by time.

    Entry e says that `request[e]` got `count[e]` tokens, the j-th (from 1) at
    start + j * step + slope * j * (j - 1) / 2. A measured token is an entry with count 1.
    """

    request: Ints
    count: Ints
    start: Floats
    step: Floats
    slope: Floats

    def chunks(self, requests: int) -> Iterator[tuple[int, int, Ints, Floats]]:
        """Yield (first, last, tokens per request, token times) for ranges of whole requests."""
        tokens = np.zeros(requests, dtype=np.int64)
        np.add.at(tokens, self.request, self.count)
        rows = np.searchsorted(self.request, np.arange(requests + 1))
        total = np.concatenate([[0], np.cumsum(tokens)])
        first = 0
        while first < requests:
            last = int(np.searchsorted(total, total[first] + _CHUNK_TOKENS, side="right")) - 1
            last = min(max(last, first + 1), requests)
            yield first, last, tokens[first:last], self._expand(slice(rows[first], rows[last]))
            first = last

    def _expand(self, rows: slice) -> Floats:
        count = self.count[rows]
        ends = np.cumsum(count)
        j = np.arange(1, int(ends[-1]) + 1 if len(ends) else 1) - np.repeat(ends - count, count)
        ramp = j * (j - 1) / 2.0
        start, step = np.repeat(self.start[rows], count), np.repeat(self.step[rows], count)
        return np.asarray(start + j * step + np.repeat(self.slope[rows], count) * ramp)


@dataclass(frozen=True, slots=True)
class Scores:
    """Per-request arrays; a request without tokens has NaN times and 0 everywhere else.

    Attributes:
        on_time: tokens that met their deadline.
        artifact_qos: the public artifact's time-weighted credit in [0, 1].
        ttft_s, mean_tbt_s: seconds; mean_tbt_s is 0 for one-token requests.
        joint: TTFT and mean TBT both met (DistServe's and Tropical's notion).
        tbt_p50_s, tbt_p99_s: quantiles over all gaps between tokens of all requests.
    """

    on_time: Ints
    artifact_qos: Floats
    ttft_s: Floats
    mean_tbt_s: Floats
    joint: Flags
    tbt_p50_s: float
    tbt_p99_s: float


def score(timelines: Timelines, arrival: Floats, slo: Slo, failed: Flags | None = None) -> Scores:
    """Score requests 0..n-1 that arrived at `arrival`; see `Scores`.

    All tokens of a `failed` request count as late, those it got in time before it failed too.
    """
    n = len(arrival)
    on_time, qos = np.zeros(n, dtype=np.int64), np.zeros(n)
    ttft, mean_tbt = np.full(n, np.nan), np.full(n, np.nan)
    gaps: list[NDArray[np.float32]] = []
    for first, last, tokens, times in timelines.chunks(n):
        if not len(times):
            continue
        served = tokens > 0
        ends = np.cumsum(tokens)
        begins = ends - tokens
        age = times - np.repeat(arrival[first:last], tokens)
        index = np.arange(len(times)) - np.repeat(begins, tokens)
        late = age > slo.ttft_s + index * slo.tbt_s + 1e-9
        late_tokens = np.add.reduceat(np.append(late, False), begins[served])
        on_time[first:last][served] = tokens[served] - late_tokens
        ttft[first:last][served] = age[begins[served]]
        spread = age[ends[served] - 1] - age[begins[served]]
        mean_tbt[first:last][served] = spread / np.maximum(tokens[served] - 1, 1)
        qos[first:last] = _artifact_qos(age, begins, tokens, on_time[first:last] == tokens, slo)
        gaps.append(np.diff(times)[index[1:] > 0].astype(np.float32))
    joint = (ttft <= slo.ttft_s) & (mean_tbt <= slo.tbt_s)
    if failed is not None:
        on_time[failed], qos[failed], joint[failed] = 0, 0.0, False
    p50, p99 = _quantiles(gaps)
    return Scores(on_time, qos, ttft, mean_tbt, joint, p50, p99)


def _artifact_qos(age: Floats, begins: Ints, tokens: Ints, all_on_time: Flags, slo: Slo) -> Floats:
    """Score as plots/plot_e2e.py of the public artifact does, late requests side by side.

    A miss moves the start of the window to the late token but keeps the growing allowance, so
    later misses must be larger; a request with no miss earns 1.
    """
    qos = np.where((tokens > 0) & all_on_time, 1.0, 0.0)
    which = np.flatnonzero((tokens > 0) & ~all_on_time)
    which = which[np.argsort(-tokens[which], kind="stable")]
    length, begin = tokens[which], begins[which]
    start, credit, total = np.zeros(len(which)), np.zeros(len(which)), np.zeros(len(which))
    for k in range(int(length[0]) if len(which) else 0):
        live = int(np.searchsorted(-length, -k, side="left"))
        at = age[begin[:live] + k]
        target = slo.ttft_s + k * slo.tbt_s
        missed = at - start[:live] > target
        total[:live] += np.where(missed, credit[:live], 0.0)
        start[:live] = np.where(missed, at, start[:live])
        credit[:live] = np.where(missed, 0.0, target)
    end = age[begin + length - 1]
    total += np.minimum(slo.ttft_s + length * slo.tbt_s, end - start)
    qos[which] = total / end
    return qos


def _quantiles(gaps: list[NDArray[np.float32]]) -> tuple[float, float]:
    if not sum(len(g) for g in gaps):
        return float("nan"), float("nan")
    p50, p99 = np.quantile(np.concatenate(gaps), [0.5, 0.99])
    return float(p50), float(p99)


def mean_active(model: Ints, start: Floats, end: Floats, begin: float, until: float) -> float:
    """Return the time average over [begin, until] of models with a request in flight.

    Request i of model `model[i]` is in flight from `start[i]` to `end[i]` (theorem 3.1's m(t)).
    """
    order = np.lexsort((start, model))
    group, left, right = model[order], start[order], np.minimum(end[order], until)
    if not len(group):
        return 0.0
    shift = group * (2.0 * until + 1.0)
    reached = np.maximum.accumulate(right + shift) - shift
    previous = np.concatenate([[-np.inf], reached[:-1]])
    previous[np.flatnonzero(np.diff(group, prepend=group[0] - 1))] = -np.inf
    covered = right - np.maximum(np.maximum(left, previous), begin)
    return float(np.maximum(covered, 0.0).sum() / (until - begin))
