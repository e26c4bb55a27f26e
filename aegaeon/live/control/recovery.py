"""Instances that died: how often, which requests wait for them, what each fault cost.

A dead instance never changes a greedy token and never loses an accepted request: its requests go on
as prompt and generated tokens, computed again by an instance of the first stage. Needs no Ray.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aegaeon.core import Stage
from aegaeon.errors import UserError
from aegaeon.live.control.tracks import LiveError, LiveTrack
from aegaeon.live.events import LiveRequest
from aegaeon.runlog import Fault

ON_FAULT = ("recover", "fail")


@dataclass(frozen=True, slots=True)
class FaultOptions:
    """`on_fault` is `recover` or `fail`; an instance is restarted at most `restarts` times."""

    on_fault: str = "recover"
    restarts: int = 2

    def __post_init__(self) -> None:
        if self.on_fault not in ON_FAULT or self.restarts < 0:
            raise UserError(
                f"backend.on_fault, backend.restarts: need one of {', '.join(ON_FAULT)} and 0 or "
                f"more, got {self.on_fault!r} and {self.restarts}"
            )


class Recovery:
    """The instances that are down, what waits for each of them, and what that costs."""

    def __init__(self, stages: Mapping[int, Stage], options: FaultOptions) -> None:
        self._stages = stages
        self._options = options
        self._deaths: Counter[int] = Counter()
        self._pending: dict[int, list[LiveRequest]] = {}
        self._unreaped: dict[int, list[LiveTrack]] = {}
        self._gone: set[int] = set()
        self._open: dict[int, int] = {}
        self.faults: list[Fault] = []

    @property
    def waiting(self) -> bool:
        """Whether an instance is being reaped or restarted."""
        return bool(self._pending or self._unreaped)

    def lost(self, instance: int, reason: str, tracks: Sequence[LiveTrack], now: float) -> bool:
        """Note a death with `tracks`; tell whether the instance is to be restarted.

        Raises LiveError if the run is to fail, or no instance of its stage is left.
        """
        if self._options.on_fault == "fail":
            raise LiveError(reason)
        self._deaths[instance] += 1
        self._pending.pop(instance, None)
        self._unreaped.setdefault(instance, []).extend(tracks)
        self._open[instance] = len(self.faults)
        self.faults.append(Fault(now, instance, reason, len(tracks)))
        if self._deaths[instance] <= self._options.restarts:
            self._pending[instance] = []
            return True
        self._gone.add(instance)
        stage = self._stages[instance]
        if all(other in self._gone for other, kind in self._stages.items() if kind is stage):
            raise LiveError(
                f"{reason}; it died {self._deaths[instance]} times (backend.restarts = "
                f"{self._options.restarts}) and no other {stage.value} instance is left"
            )
        return False

    def unreaped(self, instance: int) -> Sequence[LiveTrack]:
        """Return the requests that wait until the dead instance is reaped."""
        return self._unreaped.get(instance, ())

    def reaped(self, instance: int) -> Sequence[LiveTrack]:
        """Note that a dead instance holds nothing any more; return the requests that waited."""
        return self._unreaped.pop(instance, ())

    def back(self, instance: int, now: float) -> list[LiveRequest]:
        """Note that an instance works again; return the requests that are pending for it."""
        at = self._open.pop(instance)
        self.faults[at] = replace(self.faults[at], seconds=now - self.faults[at].time)
        return self._pending.pop(instance)

    def keep(self, instance: int, request: LiveRequest) -> bool:
        """Keep a request for an instance that is being restarted; False if the instance is up."""
        pending = self._pending.get(instance)
        if pending is not None:
            pending.append(request)
        return pending is not None


def resume(track: LiveTrack) -> str | None:
    """Let a request whose instance died go on after its tokens; return why that is impossible."""
    several = track.live.params.get("n", 1) > 1
    if several and track.tokens:
        return "its instance died, and n > 1 sequences cannot be continued"
    track.restarts += 1
    track.live = replace(track.live, generated=tuple(track.tokens), kv=None)
    return None
