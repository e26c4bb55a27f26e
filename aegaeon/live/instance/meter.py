"""The times of one work item: its steps, and the KV copies before and after them."""

from __future__ import annotations

from collections.abc import Collection

from aegaeon.live.events import Ran
from aegaeon.live.instance.kv_store import KvMove


class WorkMeter:
    """Adds up what a work item took so far, as `Ran` reports it. All times are in seconds.

    A prefill has a report for every step in which requests get their token; `item_busy_s` is the
    time inside steps of the whole work item.
    """

    def __init__(self) -> None:
        self.begin_item()

    def begin_item(self) -> None:
        """Forget what was counted: a new work item begins."""
        self.item_busy_s = 0.0
        self._restart()

    def _restart(self) -> None:
        self._start = self._busy_s = self._data_s = self._lead_s = 0.0
        self._in_s = self._out_s = 0.0
        self._steps = 0
        self._ran: set[str] = set()

    def begin_step(self) -> None:
        """Forget the copies of the step before."""
        self._in_s = self._out_s = 0.0

    def note_move(self, move: KvMove) -> None:
        """Count a copy: before the current step, or, if exported, at its end."""
        if move.exported:
            self._out_s += move.seconds
        else:
            self._in_s += move.seconds

    def end_step(self, began: float, seconds: float, ran: Collection[str]) -> float:
        """Count a step of these requests; return when it began, its KV having arrived.

        `began` and `seconds` include the copies.
        """
        moved = self._in_s + self._out_s
        if not self._steps:
            self._start, self._lead_s = began + self._in_s, self._in_s
        self._steps += 1
        self._busy_s += seconds - moved
        self.item_busy_s += seconds - moved
        self._data_s += moved
        self._ran |= set(ran)
        return began + self._in_s

    def add_data(self, seconds: float) -> None:
        """Count time spent on KV between two steps."""
        self._data_s += seconds

    def end(self, kind: str, model: str, end: float) -> Ran | None:
        """Return the report of what ran, None if no request did; start the next report."""
        report = None
        if self._ran:
            ids = tuple(sorted([int(ident) for ident in self._ran]))
            spent = (self._busy_s, self._data_s, self._lead_s)
            report = Ran(self._start, end, kind, model, ids, self._steps, *spent)
        self._restart()
        return report
