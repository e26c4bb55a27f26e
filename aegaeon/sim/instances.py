"""The simulated instance that a spec asks for."""

from __future__ import annotations

from typing import Protocol

from aegaeon.core import InstanceSpec
from aegaeon.policy.interface import Scheduler
from aegaeon.sim.context import Context
from aegaeon.sim.copies import Inline, Overlapped
from aegaeon.sim.device_kv import DeviceKv
from aegaeon.sim.space_shared import SpaceSharedInstance
from aegaeon.sim.time_shared import TimeSharedInstance
from aegaeon.sim.track import Track
from aegaeon.sim.weights import HostLink


class Instance(Protocol):
    """What the simulator asks of an instance, whatever its models share."""

    def accept(self, track: Track, now: float) -> None:
        """Take a request in."""
        ...

    def audit(self) -> None:
        """Check at the end that nothing is left."""
        ...


def build_instance(spec: InstanceSpec, scheduler: Scheduler, context: Context) -> Instance:
    """Build an instance: space-shared with resident models, else time-shared."""
    if spec.models:
        return SpaceSharedInstance(spec, scheduler, context)
    link = HostLink(spec.link_bandwidth, context.overheads.kv_move_s)
    inline = context.overheads.inline_copies
    copies = Inline(spec, context.costs) if inline else Overlapped(spec, link, context.costs)
    kv = DeviceKv(spec, link, context.recorder)
    return TimeSharedInstance(spec, scheduler, context, kv, copies)
