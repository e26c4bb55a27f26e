"""One scorer for every system: token timelines in, attainment out (formulas in docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from aegaeon.core import Slo
from aegaeon.runlog import Flags, Floats, Ints, RunLog, Timelines


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


@dataclass(frozen=True, slots=True)
class _Targets:
    """Seconds to the first token and between tokens: of all requests, or one entry per request."""

    ttft_s: float | Floats
    tbt_s: float | Floats

    @classmethod
    def of(cls, slo: Slo, own: Sequence[Slo | None]) -> _Targets:
        """Return every request's own targets, and those of `slo` for a request that has none."""
        if not any(own):
            return cls(slo.ttft_s, slo.tbt_s)
        each = [slo if one is None else one for one in own]
        return cls(np.array([s.ttft_s for s in each]), np.array([s.tbt_s for s in each]))

    def at(self, which: slice | Ints) -> _Targets:
        """Return the targets of some of the requests."""
        if isinstance(self.ttft_s, np.ndarray) and isinstance(self.tbt_s, np.ndarray):
            return _Targets(self.ttft_s[which], self.tbt_s[which])
        return self

    def per_token(self, tokens: Ints) -> _Targets:
        """Return the targets once for each of a request's `tokens`."""
        return self.at(np.repeat(np.arange(len(tokens)), tokens))

    def due(self, index: Ints | int) -> float | Floats:
        """Return the deadlines of tokens `index` (from 0), in seconds after the arrival."""
        return cast("float | Floats", self.ttft_s + index * self.tbt_s)


def score_run(log: RunLog, slo: Slo) -> Scores:
    """Score every request of a finished run; `slo` is for requests that have no own one."""
    arrival = np.array([r.request.arrival for r in log.requests])
    failed = np.array([r.failure is not None for r in log.requests], dtype=bool)
    own = [r.request.slo for r in log.requests]
    return score(log.timelines, arrival, slo, failed, own)


def score(
    timelines: Timelines,
    arrival: Floats,
    slo: Slo,
    failed: Flags | None = None,
    own: Sequence[Slo | None] = (),
) -> Scores:
    """Score requests 0..n-1 that arrived at `arrival`; see `Scores`.

    All tokens of a `failed` request count as late, those it got in time before it failed too.
    `own` has each request's own SLO, or None where the run's holds.
    """
    n, targets = len(arrival), _Targets.of(slo, own)
    on_time, qos = np.zeros(n, dtype=np.int64), np.zeros(n)
    ttft, mean_tbt = np.full(n, np.nan), np.full(n, np.nan)
    gaps: list[NDArray[np.float32]] = []
    for first, last, tokens, times in timelines.chunks(n):
        if not len(times):
            continue
        mine, served = targets.at(slice(first, last)), tokens > 0
        ends = np.cumsum(tokens)
        begins = ends - tokens
        age = times - np.repeat(arrival[first:last], tokens)
        index = np.arange(len(times)) - np.repeat(begins, tokens)
        late = age > mine.per_token(tokens).due(index) + 1e-9
        late_tokens = np.add.reduceat(np.append(late, False), begins[served])
        on_time[first:last][served] = tokens[served] - late_tokens
        ttft[first:last][served] = age[begins[served]]
        spread = age[ends[served] - 1] - age[begins[served]]
        mean_tbt[first:last][served] = spread / np.maximum(tokens[served] - 1, 1)
        qos[first:last] = _artifact_qos(age, begins, tokens, on_time[first:last] == tokens, mine)
        gaps.append(np.diff(times)[index[1:] > 0].astype(np.float32))
    joint = (ttft <= targets.ttft_s) & (mean_tbt <= targets.tbt_s)
    if failed is not None:
        on_time[failed], qos[failed], joint[failed] = 0, 0.0, False
    p50, p99 = _quantiles(gaps)
    return Scores(on_time, qos, ttft, mean_tbt, joint, p50, p99)


def _artifact_qos(
    age: Floats, begins: Ints, tokens: Ints, all_on_time: Flags, targets: _Targets
) -> Floats:
    """Score as plots/plot_e2e.py of the public artifact does, all late requests at once.

    A miss moves the start of the window to the late token but keeps the growing allowance, so
    later misses must be larger; a request with no miss earns 1.
    """
    qos = np.where((tokens > 0) & all_on_time, 1.0, 0.0)
    which = np.flatnonzero((tokens > 0) & ~all_on_time)
    which = which[np.argsort(-tokens[which], kind="stable")]
    length, begin, targets = tokens[which], begins[which], targets.at(which)
    start, credit, total = np.zeros(len(which)), np.zeros(len(which)), np.zeros(len(which))
    for k in range(int(length[0]) if len(which) else 0):
        live = int(np.searchsorted(-length, -k, side="left"))
        at = age[begin[:live] + k]
        target = targets.at(slice(live)).due(k)
        missed = at - start[:live] > target
        total[:live] += np.where(missed, credit[:live], 0.0)
        start[:live] = np.where(missed, at, start[:live])
        credit[:live] = np.where(missed, 0.0, target)
    end = age[begin + length - 1]
    total += np.minimum(targets.due(length), end - start)
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
