"""The two parts of a profile on live instances: the grid, then a run of single requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aegaeon.core import Arrival, Deployment, Fleet, ModelSpec, Request
from aegaeon.errors import UserError
from aegaeon.live.backend import opened, prompts
from aegaeon.live.control.controller import Controller
from aegaeon.live.control.source import Replay
from aegaeon.live.control.tracks import LiveRun
from aegaeon.live.measure.calibrate import Measured, longest, warm_up
from aegaeon.live.measure.neighbours import crowding, neighbours
from aegaeon.live.measure.probe import DECODE_STEPS, Point, Round, Sample
from aegaeon.live.options import LiveOptions
from aegaeon.live.preflight.checks import live_fleet, slab_bytes
from aegaeon.live.ray.session import Session
from aegaeon.policy.interface import System

LENGTHS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
BATCHES = (1, 2, 4, 8, 16)
# Tokens of one prefill. More tokens take seconds on a CPU, and do not change a fit.
MAX_TOKENS = 1024
CYCLES = 8
_KV_SHARE = 0.8
_HOST_SHARE = 0.5
_PROBE_GAP_S, _PROBE_TOKENS = 0.5, 12
_PROBE_LENGTHS = (16, 64, 128)


@dataclass(frozen=True, slots=True)
class Profiled:
    """The samples by instance (`measured`), and the samples of single requests (`alone`).

    Single requests give `send` and `hand_over` (message latencies) and `alone` (admission to last
    token on an idle instance). `alone_host` and `alone_slot` are the same after a switch from host
    memory or from a device slot.
    """

    fleet: Fleet
    measured: Measured
    alone: Sequence[Sample]


def grid(spec: ModelSpec, kv_bytes: float, host_bytes: float) -> list[Point]:
    """Return the points within the model's limit and the bytes for KV.

    `kv_bytes` are a device's, `host_bytes` one instance's share of its node's host KV pool. Raises
    UserError if no point fits.
    """
    most = longest(spec)
    if most < 1:
        raise UserError(f"conf/model/{spec.type}.yaml: max_len {spec.max_len} is too short")
    lengths = sorted({min(tokens, most) for tokens in LENGTHS})
    room = min(_KV_SHARE * kv_bytes, _HOST_SHARE * host_bytes) / spec.kv_bytes_per_token
    points = []
    for tokens in lengths:
        for batch in BATCHES:
            # 64 tokens are a margin for blocks that are partly filled.
            needed = batch * (tokens + DECODE_STEPS + 64)
            if tokens * batch <= max(MAX_TOKENS, tokens) and needed <= room:
                points.append(Point(spec.name, tokens, batch))
    if not points:
        raise UserError(
            f"backend.kv_bytes: no prompt of {spec.type} fits into {kv_bytes:,.0f} bytes on the "
            f"device and {host_bytes:,.0f} in the host pool; make them larger"
        )
    return points


def grids(models: Sequence[ModelSpec], fleet: Fleet, options: LiveOptions) -> list[Point]:
    """Return the grid of the first model of each type."""
    kv_bytes = min([spec.kv_bytes for spec in fleet])
    host_bytes = slab_bytes(models, options) * options.slabs / len(fleet)
    first = {spec.type: spec for spec in reversed(models)}.values()
    return [p for spec in first for p in grid(spec, kv_bytes, host_bytes)]


def measure(
    session: Session, fleet: Fleet, points: Sequence[Point], repeats: int, done: Callable[[], None]
) -> dict[int, list[Sample]]:
    """Measure the first instance of each stage; return the samples by instance.

    The other instances are idle in the grid, and busy in the measurement of neighbours. `done` is
    called after each of the `repeats` rounds.
    """
    first = {spec.stage: spec for spec in reversed(fleet)}.values()
    found: dict[int, list[Sample]] = {spec.id: [] for spec in first}
    for _ in range(repeats):
        for spec in first:
            found[spec.id] += session.measure([{spec.id: Round(points, CYCLES)}])[spec.id]
            if neighbours(spec, fleet):
                found[spec.id] += crowding(session, fleet, spec, points)
        done()
    return found


def run_profile(
    system: System,
    deployment: Deployment,
    options: LiveOptions,
    folder: Path,
    repeats: int,
    probes: int,
    begin: Callable[[int], Callable[[], None]],
) -> Profiled:
    """Measure the grid `repeats` times, then `probes` single requests through a whole run.

    `begin` gets the number of rounds and returns a function to call after each round. Logs go to
    `folder`. Raises UserError for a configuration that cannot run.
    """
    fleet = live_fleet(system, deployment, options)
    points = grids(deployment.models, fleet, options)
    with opened(fleet, deployment, options, folder) as session:
        done = begin(repeats)
        session.measure_together([warm_up(deployment.models)])
        measured = measure(session, fleet, points, repeats, done)
        clock = session.start(system, deployment)
        requests = prompts(probe_requests(deployment.models, probes), seed=0)
        run = Controller(
            system.dispatcher(deployment, fleet),
            fleet,
            Replay(requests),
            session.transport,
            session.inbox,
            clock,
            stall_s=options.stall_timeout_s,
        ).run()
    return Profiled(fleet, measured, alone(run))


def probe_requests(models: Sequence[ModelSpec], count: int) -> list[Arrival]:
    """Return arrivals 0.5 s apart, so that each request is alone; the models alternate."""
    made = []
    for i in range(count):
        spec = models[i % len(models)]
        wanted = _PROBE_LENGTHS[i // len(models) % len(_PROBE_LENGTHS)]
        tokens = min(wanted, longest(spec))
        request = Request(i, spec.name, _PROBE_GAP_S * (i + 1), tokens)
        made.append(Arrival(request, _PROBE_TOKENS))
    return made


def alone(run: LiveRun) -> list[Sample]:
    """Return the samples of a run in which no two requests overlapped."""
    made = []
    # The first request of a run is slower than the others.
    for track in run.tracks[1:]:
        spec, stays, times = track.request, track.stays, track.times
        parts = [("send", "", 0, stays[0].accepted - spec.arrival)]
        if len(stays) > 1:
            # The first token's time is when the simulated hand-over begins.
            parts.append(("hand_over", "", 0, stays[1].accepted - times[0]))
            lasts = (("prefill", 0), ("decode", len(times) - 1))
            for stay, (stage, last) in zip(stays, lasts, strict=False):
                kind = "alone" + _change(run, stay.instance, stay.accepted, times[last])
                parts.append((kind, stage, last, times[last] - stay.accepted))
        for kind, stage, last, seconds in parts:
            # A decoding step starts with the KV of all tokens before the step's own.
            length = spec.input_tokens + (last + 1) / 2 if last else spec.input_tokens
            made.append(Sample(kind, stage, spec.model, length, 1, seconds, steps=max(1, last)))
    return made


def _change(run: LiveRun, instance: int, begin: float, end: float) -> str:
    """Return the suffix of the kind: how the instance's model changed in the interval, or empty."""
    for where, switch in run.switches:
        if where == instance and begin <= switch.time <= end:
            return "_slot" if switch.prefetched else "_host"
    return ""


def machine(fingerprint: Mapping[str, str], processor: str, cores: int) -> dict[str, str]:
    """Return a profile's fingerprint: the settings of a machine that decide times."""
    kept = {key: value for key, value in fingerprint.items() if key != "aegaeon"}
    return {"processor": processor, "cores": str(cores), **kept}
