"""What the simulated instances of a run share: time, costs, neighbours, the log, the lifecycle."""

from __future__ import annotations

from dataclasses import dataclass, field

from aegaeon.core import CostModel, Overheads
from aegaeon.policy.lifecycle import ConservationError, Lifecycle
from aegaeon.sim.events import EventQueue
from aegaeon.sim.neighbours import Neighbours
from aegaeon.sim.recorder import Recorder
from aegaeon.sim.track import Track

GIVEN_UP = "the system's policy gave it up"


@dataclass(slots=True)
class Context:
    """One run, as its instances see it.

    Attributes:
        costs: what models really cost; policies may be told otherwise.
        stepwise: a decode segment has one step; no token's time depends on that.
    """

    costs: CostModel
    overheads: Overheads
    lifecycle: Lifecycle[Track]
    stepwise: bool = False
    events: EventQueue = field(default_factory=EventQueue)
    recorder: Recorder = field(default_factory=Recorder)
    neighbours: Neighbours = field(init=False)

    def __post_init__(self) -> None:
        self.neighbours = Neighbours(self.overheads)

    def finish(self, track: Track, instance: int, now: float) -> None:
        """Note a request's last token; raise `ConservationError` unless it made all its tokens."""
        if track.generated != track.output_tokens:
            raise ConservationError(
                f"request {track.request.id}: {track.generated} tokens made, "
                f"{track.output_tokens} asked for"
            )
        track.finish = now
        self.lifecycle.leave(track, instance, now)

    def fail(self, track: Track, instance: int, now: float) -> None:
        """Note that the policy of an instance gave a request up."""
        track.failure = GIVEN_UP
        self.lifecycle.leave(track, instance, now)
