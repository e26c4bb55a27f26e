"""What a simulation writes down: run-length token timelines, switches and KV moves."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from aegaeon.core import CostModel, Fleet, Request
from aegaeon.runlog import KvMoves, RunLog, Switches, Timelines
from aegaeon.sim.track import Track


class Recorder:
    """Grows column by column; a decode segment is one entry, however many tokens it makes.

    Times are seconds.
    """

    def __init__(self) -> None:
        self._start: Final = array("d")
        self._first: Final = array("d")
        self._slope: Final = array("d")
        self._steps: Final = array("q")
        self._row_request: Final = array("q")
        self._row_segment: Final = array("q")
        self._switch_at: Final = array("d")
        self._switch_instance: Final = array("q")
        self._switch_s: Final = array("d")
        self._switch_prefetched: Final = array("b")
        self._switch_model: Final[list[str]] = []
        self._switch_bytes: Final = array("d")
        self._move_at: Final = array("d")
        self._move_instance: Final = array("q")
        self._move_s: Final = array("d")
        self._move_bytes: Final = array("d")
        self._move_request: Final = array("q")
        self._move_out: Final = array("b")
        self._move_model: Final[list[str]] = []

    def segment(self, start: float, step: float, slope: float, steps: int) -> int:
        """Note consecutive steps, the first of `step` seconds; return the segment's number."""
        self._start.append(start)
        self._first.append(step)
        self._slope.append(slope)
        self._steps.append(steps)
        return len(self._steps) - 1

    def tokens(self, request: int, segment: int) -> None:
        """Note that `request` got one token per step of `segment`."""
        self._row_request.append(request)
        self._row_segment.append(segment)

    def switch(
        self, now: float, instance: int, seconds: float, prefetched: bool, model: str, size: float
    ) -> None:
        """Note a change to `model`, whose weights are `size` bytes on the device."""
        self._switch_at.append(now)
        self._switch_instance.append(instance)
        self._switch_s.append(seconds)
        self._switch_prefetched.append(prefetched)
        self._switch_model.append(model)
        self._switch_bytes.append(size)

    def move(
        self,
        now: float,
        instance: int,
        seconds: float,
        size: float,
        request: Request,
        out: bool = False,
    ) -> None:
        """Note that a request's KV, `size` bytes, moved in `seconds` from when it could.

        `out` is the way to the host.
        """
        self._move_at.append(now)
        self._move_instance.append(instance)
        self._move_s.append(seconds)
        self._move_bytes.append(size)
        self._move_request.append(request.id)
        self._move_out.append(out)
        self._move_model.append(request.model)

    def log(self, tracks: Sequence[Track], fleet: Fleet, costs: CostModel, events: int) -> RunLog:
        """Return the finished run; `tracks` are in order of id, which are 0 to n - 1."""
        return RunLog(
            requests=[track.log() for track in tracks],
            timelines=self._timelines(),
            switches=Switches(
                time=np.array(self._switch_at),
                instance=np.array(self._switch_instance),
                seconds=np.array(self._switch_s),
                prefetched=np.array(self._switch_prefetched, dtype=np.bool_),
                model=self._switch_model,
                nbytes=np.array(self._switch_bytes),
            ),
            moves=KvMoves(
                time=np.array(self._move_at),
                instance=np.array(self._move_instance),
                seconds=np.array(self._move_s),
                nbytes=np.array(self._move_bytes),
                request=np.array(self._move_request),
                out=np.array(self._move_out, dtype=np.bool_),
                model=self._move_model,
            ),
            fleet=fleet,
            costs=costs,
            refusals=Counter([t.failure for t in tracks if t.failure is not None]),
            events=events,
        )

    def _timelines(self) -> Timelines:
        """Return every token's time, run-length encoded and ordered by request."""
        request = np.frombuffer(self._row_request, dtype=np.int64)
        order = np.argsort(request, kind="stable")
        segment = np.frombuffer(self._row_segment, dtype=np.int64)[order]
        return Timelines(
            request=request[order],
            count=np.frombuffer(self._steps, dtype=np.int64)[segment],
            start=np.frombuffer(self._start)[segment],
            step=np.frombuffer(self._first)[segment],
            slope=np.frombuffer(self._slope)[segment],
        )
