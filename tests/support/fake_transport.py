"""Fakes of the parts around the controller: instances, transport, dispatcher, clock."""

import queue
from dataclasses import dataclass, field, replace

from aegaeon.core import DeviceSpec, InstanceSpec, Request, Stage
from aegaeon.live.control.controller import Controller
from aegaeon.live.control.messages import (
    Died,
    Ended,
    Message,
    Reaped,
    Reported,
    Restarted,
    Transferred,
)
from aegaeon.live.control.recovery import FaultOptions
from aegaeon.live.control.source import Replay
from aegaeon.live.events import (
    Accepted,
    Finished,
    HostKv,
    LiveRequest,
    Prefilled,
    TokenOutput,
    Tokens,
)

# Tokens that a fake instance makes for a request without `due`.
UNKNOWN_LENGTH = 3
DEVICE = DeviceSpec("cpu", 1e9, 1e9, 1e9, 1e9)


def instance(ident: int, stage: Stage) -> InstanceSpec:
    return InstanceSpec(ident, stage, DEVICE, 1e6, 1e9)


def request(ident: int, out: int = 3, arrival: float = 0.0) -> LiveRequest:
    return LiveRequest(Request(ident, "m", arrival, 4), (1, 2, 3, 4), due=out)


@dataclass
class FakeInstance:
    """An instance that answers at once, unless `mute`; times are those of the controller's clock.

    `got`, `discarded` and `reaped` record the calls.
    """

    ident: int
    stage: Stage
    inbox: "queue.Queue[Message]"
    clock: object
    node: str = "a"
    mute: bool = False
    kv: HostKv | None = None
    epoch: int = 0
    lands: HostKv | None = None
    got: list[LiveRequest] = field(default_factory=list)
    discarded: list[HostKv] = field(default_factory=list)
    reaped: list[tuple[list[int], bool]] = field(default_factory=list)
    stopped: bool = False

    def accept(self, live):
        self.got.append(live)
        if not self.mute:
            self.say(Accepted(self.clock(), live.spec.id), *self.answer(live))

    def answer(self, live):
        now, ident = self.clock(), live.spec.id
        left = (live.due or UNKNOWN_LENGTH) - len(live.generated)
        if self.stage is Stage.PREFILL:
            made = (*live.generated, 7)
            if left == 1:
                return [tokens(now, ident, 7), Finished(now, ident, "length")]
            moved = replace(live, generated=made, kv=self.kv)
            return [tokens(now, ident, 7), Prefilled(now, moved)]
        made = [tokens(now, ident, t) for t in range(left)]
        return [*made, Finished(now, ident, "length")]

    def say(self, *events):
        self.inbox.put(Reported(self.ident, self.epoch, events))

    def discard(self, kv, request):
        self.discarded.append(kv)

    def transfer(self, kv, request, transfer, there):
        self.inbox.put(Transferred(there, self.clock(), request, transfer, self.lands, 64, 0.01))

    def die(self):
        self.inbox.put(Died(self.ident, self.epoch, f"{self.ident} died"))

    def restart(self, requests, again):
        self.reaped.append((list(requests), again))
        self.epoch += 1
        self.inbox.put(Reaped(self.ident, self.epoch))
        if again:
            self.inbox.put(Restarted(self.ident, self.epoch))

    def stop(self):
        self.stopped = True
        self.inbox.put(Ended(self.ident, self.epoch))


@dataclass
class FakeTransport:
    """A transport to fake instances, by direct calls."""

    instances: dict[int, FakeInstance]

    def node(self, instance):
        return self.instances[instance].node

    def epoch(self, instance):
        return self.instances[instance].epoch

    def accept(self, instance, live):
        self.instances[instance].accept(live)

    def discard(self, instance, kv, request):
        self.instances[instance].discard(kv, request)

    def transfer(self, kv, request, transfer, origin, destination):
        self.instances[origin].transfer(kv, request, transfer, destination)

    def restart(self, instance, requests, again):
        self.instances[instance].restart(requests, again)

    def stop(self, instance):
        self.instances[instance].stop()


def tokens(now: float, ident: int, *ids: int) -> Tokens:
    return Tokens(now, ident, TokenOutput(str(ident), 0, ids))


@dataclass
class FakeDispatcher:
    """A dispatcher that prefills on 0 and decodes on 1, unless `answers` says otherwise.

    `heard` records the calls. `released` has the placements to return.
    """

    answers: dict = field(default_factory=dict)
    released: dict = field(default_factory=dict)
    heard: list = field(default_factory=list)

    def place(self, request, stage, now):
        return self.answers.get((request.id, stage), 1 if stage is Stage.DECODE else 0)

    def finished(self, request, stage, instance, now):
        self.heard.append((request.id, stage, instance))
        return self.released.pop((request.id, stage), ())

    def available(self, instance, up, now):
        self.heard.append((instance, up))
        return self.released.pop((instance, up), ())


class Clock:
    """A clock in seconds that advances by 1 ms at every call."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1e-3
        return self.now


class Bench:
    """A controller on fakes: instance 0 prefills and instance 1 decodes."""

    def __init__(self):
        self.clock = Clock()
        self.inbox = queue.Queue()
        self.fleet = (instance(0, Stage.PREFILL), instance(1, Stage.DECODE))
        self.instances = {
            s.id: FakeInstance(s.id, s.stage, self.inbox, self.clock) for s in self.fleet
        }
        self.dispatcher = FakeDispatcher()

    def controller(self, *requests, stall_s=0.05, restarts=None, source=None, progress=None):
        source = source or Replay(requests)
        faults = None if restarts is None else FaultOptions("recover", restarts)
        made = (
            self.dispatcher,
            self.fleet,
            source,
            FakeTransport(self.instances),
            self.inbox,
            self.clock,
        )
        return Controller(*made, stall_s=stall_s, faults=faults, progress=progress)
