"""The run log, which both backends return and which is all that scoring reads.

Times are seconds on the run's clock, which starts at 0; sizes are bytes. A column of a table has
one entry per event, in the order in which the backend noted the events.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aegaeon.core import CostModel, Fleet, Request

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


class RequestLog(NamedTuple):
    """One request of a run: its times, and the breakdown of the time from arrival to finish.

    Attributes:
        output_tokens: tokens that were due.
        prefill_start, first_token, finish: times; NaN for an event that never came.
        prefill_wait_s to data_s: seconds. The six add up to finish - arrival; some are NaN if the
            request did not finish.
            Execution is inside engine steps; `data_s` waits for KV copies; `control_s` is messages
            and bookkeeping; the waits are the rest, before and after the first token.
        sent: when the controller sent the request; live runs replay arrivals a little late.
        restarts: instances that died with the request.
        failure: why the request failed; None if it did not.
    """

    request: Request
    output_tokens: int
    prefill_start: float
    first_token: float
    finish: float
    prefill_wait_s: float
    prefill_s: float
    decode_wait_s: float
    decode_s: float
    control_s: float
    data_s: float
    sent: float = math.nan
    restarts: int = 0
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Switches:
    """Model switches: `time` is the begin, `model` the new model, `nbytes` the weights' bytes."""

    time: Floats
    instance: Ints
    seconds: Floats
    prefetched: Flags
    model: Sequence[str]
    nbytes: Floats


@dataclass(frozen=True, slots=True)
class KvMoves:
    """Moves of KV between a device and its host.

    `time` is the earliest time at which a move could begin; `seconds` count from there. `out` is
    true for moves to the host. `request` is below 0 for a move of several requests. `model` is the
    model of the KV.
    """

    time: Floats
    instance: Ints
    seconds: Floats
    nbytes: Floats
    request: Ints
    out: Flags
    model: Sequence[str]


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer of one request's KV to the node of `instance`, begun at `time`."""

    time: float
    instance: int
    request: int
    model: str
    seconds: float
    nbytes: int


@dataclass(frozen=True, slots=True)
class Fault:
    """An instance died at `time` with `requests` requests, and was restarted `seconds` later.

    `seconds` is NaN for an instance that was not restarted.
    """

    time: float
    instance: int
    reason: str
    requests: int
    seconds: float = math.nan


@dataclass(frozen=True, slots=True)
class PoolSample:
    """A node's host KV pool at `time`, for one block size: bytes in blocks and in bound slabs."""

    time: float
    node: str
    block_bytes: int
    used: int
    allocated: int


@dataclass(frozen=True, slots=True)
class StageCost:
    """How long a model of type `model` takes to get ready in one way, measured in `round`.

    `order` is 0 for the slowest way; `nbytes` are its weights on one device.
    """

    stage: str
    order: int
    model: str
    seconds: float
    nbytes: int
    note: str
    round: int = 0


@dataclass(frozen=True, slots=True)
class RunLog:
    """A finished run; `requests` are in order of id, and ids are 0 to n - 1.

    Attributes:
        costs: the cost model that the policies used.
        refusals: requests that failed, counted by reason.
        events: events simulated, or work items run.
        pool: samples of the host KV pools; empty if the backend takes none.
    """

    requests: Sequence[RequestLog]
    timelines: Timelines
    switches: Switches
    moves: KvMoves
    fleet: Fleet
    costs: CostModel
    refusals: Mapping[str, int] = field(default_factory=dict)
    events: int = 0
    transfers: Sequence[Transfer] = ()
    faults: Sequence[Fault] = ()
    pool: Sequence[PoolSample] = ()
