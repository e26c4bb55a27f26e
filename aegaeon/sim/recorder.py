"""What a simulation writes down: run-length token timelines, switches and KV moves."""

from __future__ import annotations

from array import array
from typing import Final

import numpy as np

from aegaeon.scoring.score import Timelines


class Recorder:
    """Grows column by column; a decode segment is one entry however many tokens it makes."""

    def __init__(self) -> None:
        self._start: Final = array("d")
        self._first: Final = array("d")
        self._slope: Final = array("d")
        self._steps: Final = array("q")
        self._row_request: Final = array("q")
        self._row_segment: Final = array("q")
        self.switch_at: Final = array("d")
        self.switch_instance: Final = array("q")
        self.switch_s: Final = array("d")
        self.switch_prefetched: Final = array("b")
        self.switch_model: Final[list[str]] = []
        self.switch_bytes: Final = array("d")
        self.move_at: Final = array("d")
        self.move_instance: Final = array("q")
        self.move_s: Final = array("d")
        self.move_bytes: Final = array("d")
        self.move_request: Final = array("q")
        self.move_out: Final = array("b")

    def segment(self, start: float, a: float, b: float, steps: int) -> int:
        """Note a decode segment and return its number."""
        self._start.append(start)
        self._first.append(a)
        self._slope.append(b)
        self._steps.append(steps)
        return len(self._steps) - 1

    def tokens(self, request: int, segment: int) -> None:
        """Note that `request` got one token per step of `segment`."""
        self._row_request.append(request)
        self._row_segment.append(segment)

    def switch(
        self,
        now: float,
        instance: int,
        seconds: float,
        prefetched: bool,
        model: str = "",
        size: float = 0.0,
    ) -> None:
        """Note a change to `model`, whose weights are `size` bytes on the device."""
        self.switch_at.append(now)
        self.switch_instance.append(instance)
        self.switch_s.append(seconds)
        self.switch_prefetched.append(prefetched)
        self.switch_model.append(model)
        self.switch_bytes.append(size)

    def move(
        self,
        now: float,
        instance: int,
        seconds: float,
        size: float,
        request: int = -1,
        out: bool = False,
    ) -> None:
        """Note that a request's KV, `size` bytes, moved in `seconds` from when it could.

        `out` is the way to the host; a `request` below 0 is not known.
        """
        self.move_at.append(now)
        self.move_instance.append(instance)
        self.move_s.append(seconds)
        self.move_bytes.append(size)
        self.move_request.append(request)
        self.move_out.append(out)

    def timelines(self) -> Timelines:
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
