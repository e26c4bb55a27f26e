"""Dead instances: the number of deaths, the pending requests, and the cost of each fault.

A dead instance never changes a greedy token and never loses an accepted request. An instance of the
first stage recomputes the KV of a lost request from its prompt and generated tokens. Needs no Ray.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from aegaeon.constraints import at_least, check_fields
from aegaeon.core import Stage
from aegaeon.live.control.tracks import LiveError, LiveTrack
from aegaeon.live.events import LiveRequest
from aegaeon.live.options import ON_FAULT
from aegaeon.runlog import Fault


@dataclass(frozen=True, slots=True)
class FaultOptions:
    """`on_fault` is `recover` or `fail`; an instance is restarted at most `restarts` times."""

    on_fault: str = field(default="recover", metadata=ON_FAULT)
    restarts: int = field(default=2, metadata=at_least(0))

    def __post_init__(self) -> None:
        check_fields(self, "backend")


class Recovery:
    """The instances that are down, the requests pending for each, and the faults of the run."""

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
        """Note a death with `tracks`; return whether the instance will be restarted.

        Raises LiveError if `on_fault` is `fail`, or if no instance of the stage is left.
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
        """Note that a dead instance holds no memory; return the requests that waited for that."""
        return self._unreaped.pop(instance, ())

    def back(self, instance: int, now: float) -> list[LiveRequest]:
        """Note that an instance is restarted; return its pending requests."""
        at = self._open.pop(instance)
        self.faults[at] = replace(self.faults[at], seconds=now - self.faults[at].time)
        return self._pending.pop(instance)

    def keep(self, instance: int, request: LiveRequest) -> bool:
        """Add a request to those pending for a restart; return False if the instance is up."""
        pending = self._pending.get(instance)
        if pending is not None:
            pending.append(request)
        return pending is not None


def resume(track: LiveTrack) -> str | None:
    """Let a lost request go on after its generated tokens; return the reason if it cannot."""
    several = track.live.params.get("n", 1) > 1
    if several and track.tokens:
        return "its instance died, and n > 1 sequences cannot be continued"
    track.restarts += 1
    track.live = replace(track.live, generated=tuple(track.tokens), kv=None)
    return None
