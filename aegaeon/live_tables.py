"""A live run in the form that simulated ones are scored and stored in."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from aegaeon.core import CostModel
from aegaeon.engine.controller import LiveRun, LiveTrack
from aegaeon.scoring import Scores
from aegaeon.sim.recorder import Recorder
from aegaeon.sim.simulator import Simulation
from aegaeon.sim.track import Track
from aegaeon.tables import events_table, requests_table


def as_simulation(run: LiveRun, costs: CostModel) -> Simulation:
    """Return the run's tracks and measured times as a simulation; request ids are 0..n-1.

    Every token is a timeline entry of its own (count 1).
    """
    recorder = Recorder()
    for track in run.tracks:
        for time in track.times:
            recorder.tokens(track.request.id, recorder.segment(time, 0.0, 0.0, 1))
    for instance, switch in run.switches:
        recorder.switch(switch.time - switch.seconds, instance, switch.seconds, switch.prefetched)
    for instance, move in run.moves:
        size = move.in_bytes + move.out_bytes
        recorder.move(move.time - move.seconds, instance, move.seconds, size)
    refusals: dict[str, int] = {}
    for track in run.tracks:
        if track.failure is not None:
            refusals[track.failure] = refusals.get(track.failure, 0) + 1
    tracks = [_track(track, costs) for track in run.tracks]
    return Simulation(tracks, recorder, run.fleet, refusals, len(run.work))


def live_requests(run: LiveRun, simulation: Simulation, scores: Scores) -> pd.DataFrame:
    """Return the simulator's table, with when each request was sent and why it failed."""
    table = requests_table(simulation, scores)
    return table.assign(
        sent_s=[track.sent for track in run.tracks],
        failure=[track.failure or "" for track in run.tracks],
    )


def live_events(run: LiveRun, simulation: Simulation) -> pd.DataFrame:
    """Return the simulator's table; a switch's bytes are known here."""
    table = events_table(simulation)
    moved = [float(move.in_bytes + move.out_bytes) for _, move in run.moves]
    return table.assign(bytes=[float(switch.nbytes) for _, switch in run.switches] + moved)


def live_costs(run: LiveRun) -> pd.DataFrame:
    """Return what the policies were told that each model costs (`ModelCost`'s fields)."""
    return pd.DataFrame([{"model": name, **asdict(cost)} for name, cost in run.costs.items()])


def _track(live: LiveTrack, costs: CostModel) -> Track:
    track = Track(live.request, costs[live.request.model])
    track.place = live.place
    track.generated = len(live.tokens)
    track.prefill_start, track.prefill_s = live.prefill_start, live.prefill_s
    track.first_token = live.times[0] if live.times else float("nan")
    track.decode_s, track.kv_wait_s = live.decode_s, live.kv_wait_s
    track.finish, track.failed = live.finish, live.failure is not None
    return track
