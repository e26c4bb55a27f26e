"""Measuring an instance: the times of prefill, decoding, switching and KV copies (appendix A.2).

The instance's own loop carries out the work items of a script, which takes the scheduler's place.
The measured times are therefore those of a run. A calibration and a profile differ only in the
number of points.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aegaeon.core import Decode, Idle, InstanceSpec, Outcome, Prefill, Request, Stage, Work
from aegaeon.live.events import Event, LiveRequest, Moved, Prefilled, Ran, Switched, Tokens
from aegaeon.live.instance.device_pool import DevicePool
from aegaeon.live.instance.instance import LiveInstance

if TYPE_CHECKING:
    from aegaeon.live.vllm.model_engine import ModelEngine

DECODE_STEPS = 10
_SWITCH_TOKENS = 16
_FIRST_ID = 1_000_000_000
_VOCABULARY = 499


@dataclass(frozen=True, slots=True)
class Point:
    """`batch` prompts of `tokens` tokens each, prefilled together and then decoded together."""

    model: str
    tokens: int
    batch: int


@dataclass(frozen=True, slots=True)
class Round:
    """A measurement of one instance: grid points, then `cycles` of switching.

    All points are measured once, and then repeated until `seconds` have passed.
    """

    points: Sequence[Point]
    cycles: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured time, in `seconds`.

    `tokens` is the mean length of the `batch` requests at the time. `steps` is 1, except for the
    kinds that begin with `alone`: `seconds` is then the time of `steps` steps.

    Kinds:
        prefill, decode: a step.
        prefill_free, decode_free: a step with idle neighbours (`neighbours`).
        prefill_crowd, decode_crowd: a step with busy neighbours (`neighbours`).
        kv_in: a copy of `nbytes` of KV from the host.
        overhead: a work item's time outside steps and copies when the item admits no request.
        admit: the extra time of a work item that admits `batch` requests.
        host: the extra time of a one-step work item after a switch with weights from the host.
        slot: the extra time of a one-step work item after a switch with weights on the device.
        send, hand_over, alone, alone_host, alone_slot: times of single requests (`profile_run`).
    """

    kind: str
    stage: str
    model: str
    tokens: float
    batch: int
    seconds: float
    nbytes: int = 0
    steps: int = 1


class _Script:
    """A scheduler that always returns `work`."""

    def __init__(self) -> None:
        self.work: Work = Idle()

    def add(self, request: Request, now: float) -> bool:
        return False

    def cancel(self, request: Request, now: float) -> None:
        raise RuntimeError("requests of a measurement are not cancelled")

    def next_work(self, now: float) -> Work:
        return self.work

    def record(self, work: Work, outcome: Outcome, now: float) -> None:
        return None


@dataclass(frozen=True, slots=True)
class _ProbedWork:
    """One work item of an instance: the duration in seconds, and the events."""

    seconds: float
    events: Sequence[Event]

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def work_s(self) -> float:
        """Seconds from the KV copies before the first step to the end of the last step."""
        pieces = [event for event in self.events if isinstance(event, Ran)]
        return pieces[-1].end - pieces[0].start + pieces[0].lead_s

    @property
    def step_ends(self) -> list[float]:
        """The time at which each step ended."""
        return sorted({event.time for event in self.events if isinstance(event, Tokens)})


class Probe:
    """Measures one device, in the thread of the device; `sink` gets all events, as in a run."""

    def __init__(
        self,
        spec: InstanceSpec,
        pool: DevicePool,
        engines: Mapping[str, ModelEngine],
        sink: Callable[[Sequence[Event]], None],
    ) -> None:
        self._spec = spec
        self._script = _Script()
        self._sink = sink
        self._taken: list[Event] = []
        self._last_id = _FIRST_ID
        self._live = LiveInstance(spec, self._script, pool, engines, self._take, time.perf_counter)

    def measure(self, round_: Round) -> list[Sample]:
        """Measure one round, including stages that this instance does not serve in a run."""
        samples: list[Sample] = []
        ends = time.perf_counter() + round_.seconds
        for count, point in enumerate(itertools.cycle(round_.points)):
            if count >= len(round_.points) and time.perf_counter() >= ends:
                break
            samples += self._point(point)
        models = list(dict.fromkeys(point.model for point in round_.points))
        if round_.cycles and len(models) > 1:
            samples += self._switching(models, round_.cycles)
        return samples

    def _take(self, events: Sequence[Event]) -> None:
        self._taken += events
        self._sink(events)

    def _probed(self, stage: Stage, work: Work) -> _ProbedWork:
        self._live.spec = replace(self._spec, stage=stage)
        self._script.work = work
        self._taken = []
        began = time.perf_counter()
        self._live.run_next()
        return _ProbedWork(time.perf_counter() - began, self._taken)

    def _point(self, point: Point) -> list[Sample]:
        requests = self._requests(point, DECODE_STEPS + 1)
        first, handed = self._prefill(requests)
        second = self._decode(handed, steps=1)
        rest = self._decode(handed, steps=DECODE_STEPS - 1)
        ends = rest.step_ends
        steps = [b - a for a, b in itertools.pairwise(ends)]
        step = sorted(steps)[len(steps) // 2]
        plain = rest.seconds - rest.work_s
        moved = [event for event in second.events if isinstance(event, Moved)]
        copies = sum([move.seconds for move in moved])
        made = [
            self._sample("prefill", Stage.PREFILL, point, first.work_s),
            self._sample("decode", Stage.DECODE, point, step, past=DECODE_STEPS // 2),
            self._sample("overhead", Stage.DECODE, point, plain),
            self._sample("admit", Stage.DECODE, point, second.seconds - copies - step - plain),
        ]
        if not first.of(Switched):
            beside = first.seconds - first.work_s - plain
            made.append(self._sample("admit", Stage.PREFILL, point, beside))
        if moved:
            nbytes = sum([move.in_bytes for move in moved])
            made.append(replace(self._sample("kv_in", Stage.DECODE, point, copies), nbytes=nbytes))
        return made

    def _prefill(self, requests: Sequence[LiveRequest]) -> tuple[_ProbedWork, list[LiveRequest]]:
        for request in requests:
            self._live.accept(request)
        specs = tuple([request.spec for request in requests])
        probed = self._probed(Stage.PREFILL, Prefill(specs[0].model, specs))
        handed = [event.request for event in probed.events if isinstance(event, Prefilled)]
        if len(handed) < len(requests):
            raise RuntimeError(f"{len(requests)} prompts, {len(handed)} prefilled: {probed.events}")
        for request in handed:
            self._live.accept(request)
        return probed, handed

    def _decode(
        self, requests: Sequence[LiveRequest], steps: int, prefetch: str | None = None
    ) -> _ProbedWork:
        """Run one step; with `steps` above 1, run the `steps` steps until the requests finish."""
        specs = tuple([request.spec for request in requests])
        quota = 0.0 if steps == 1 else float("inf")
        return self._probed(Stage.DECODE, Decode(specs[0].model, specs, quota, prefetch))

    def _switching(self, models: Sequence[str], cycles: int) -> list[Sample]:
        """Run one step of every model: after a switch, without one, and with a prefetch."""
        points = {model: Point(model, _SWITCH_TOKENS, 1) for model in models}
        tokens = 3 * cycles + 3
        batches = {m: self._prefill(self._requests(points[m], tokens))[1] for m in models}
        for model in models:
            self._decode(batches[model], 1)
        samples = []
        for cycle in range(cycles):
            for model, following in zip(models, [*models[1:], models[0]], strict=True):
                changed, plain = (self._decode(batches[model], 1) for _ in range(2))
                hint = following if cycle % 2 and self._spec.weight_slots > 1 else None
                self._decode(batches[model], 1, hint)
                switches = [event for event in changed.events if isinstance(event, Switched)]
                for switch in switches:
                    kind = "slot" if switch.prefetched else "host"
                    seconds = changed.seconds - plain.seconds
                    made = self._sample(kind, self._spec.stage, points[model], seconds)
                    samples.append(replace(made, nbytes=switch.nbytes))
        for model in models:
            self._decode(batches[model], tokens)
        return samples

    def _sample(
        self, kind: str, stage: Stage, point: Point, seconds: float, past: float = 0.0
    ) -> Sample:
        return Sample(kind, stage.value, point.model, point.tokens + past, point.batch, seconds)

    def _requests(self, point: Point, tokens: int) -> list[LiveRequest]:
        made = []
        for _ in range(point.batch):
            self._last_id += 1
            ident = self._last_id
            prompt = tuple([(31 * ident + 7 * j) % _VOCABULARY + 1 for j in range(point.tokens)])
            params = {"temperature": 0.0, "max_tokens": tokens, "ignore_eos": True}
            spec = Request(ident, point.model, 0.0, point.tokens)
            made.append(LiveRequest(spec, prompt, {**params, "detokenize": False}, due=tokens))
        return made
