"""A live run in the form that simulated ones are scored and stored in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

import numpy as np
import pandas as pd

from aegaeon.core import Arrival, CostModel, ModelCost, ModelSpec
from aegaeon.live.control.tracks import Breakdown, LiveRun, LiveTrack
from aegaeon.runlog import PoolSample
from aegaeon.scoring.score import Scores
from aegaeon.scoring.tables import requests_table
from aegaeon.sim.recorder import Recorder
from aegaeon.sim.simulator import Simulation
from aegaeon.sim.track import Track

Types = Mapping[str, str]
PARTS = tuple([item.name for item in fields(Breakdown)])


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


def live_tables(
    run: LiveRun, simulation: Simulation, scores: Scores, models: Sequence[ModelSpec]
) -> dict[str, pd.DataFrame]:
    """Return all tables of a run by file stem."""
    types = {model.name: model.type for model in models}
    return {
        "requests": live_requests(run, simulation, scores, types),
        "events": live_events(run, types),
        "pool": live_pool(run.pool),
        "costs": live_costs(run),
    }


def live_requests(
    run: LiveRun, simulation: Simulation, scores: Scores, types: Types
) -> pd.DataFrame:
    """Return the simulator's table with measured parts, when each was sent and why it failed."""
    parts = [track.breakdown() for track in run.tracks]
    measured = {name: [getattr(p, name) for p in parts] for name in PARTS}
    return requests_table(simulation, scores, types).assign(
        **measured,
        sent_s=[track.sent for track in run.tracks],
        restarts=[track.restarts for track in run.tracks],
        failure=[track.failure or "" for track in run.tracks],
    )


def live_events(run: LiveRun, types: Types) -> pd.DataFrame:
    """Return one row an event: when and where it began, what it took, its bytes.

    Switches, KV moves between device and host, KV carried to an instance on another node, and
    instances that died (until they worked again, NaN if they never did).
    """
    rows = [
        ("switch", s.time - s.seconds, at, s.model, s.seconds, float(s.nbytes), s.prefetched)
        for at, s in run.switches
    ]
    rows += [
        (
            "kv_move",
            m.time - m.seconds,
            at,
            m.model,
            m.seconds,
            float(m.in_bytes + m.out_bytes),
            False,
        )
        for at, m in run.moves
    ]
    names = {track.request.id: track.request.model for track in run.tracks}
    rows += [
        (
            "kv_carry",
            t.time - t.seconds,
            t.instance,
            names[t.request],
            t.seconds,
            float(t.nbytes),
            False,
        )
        for t in run.transfers
    ]
    rows += [("fault", f.time, f.instance, "", f.seconds, 0.0, False) for f in run.faults]
    columns = ["kind", "time_s", "instance", "model", "seconds", "bytes", "prefetched"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(4, "type", [types.get(name, "") for name in table["model"]])
    return table


def live_pool(samples: Sequence[PoolSample]) -> pd.DataFrame:
    """Return the host KV pools' use over time by block size; S0 has the smallest blocks."""
    nodes = {node: i for i, node in enumerate(dict.fromkeys([s.node for s in samples]))}
    sizes = np.array([s.block_bytes for s in samples], dtype=np.int64)
    shapes = {size: f"S{i}" for i, size in enumerate(np.unique(sizes).tolist())}
    return pd.DataFrame(
        {
            "time_s": np.array([s.time for s in samples], dtype=np.float64),
            "node": np.array([nodes[s.node] for s in samples], dtype=np.int64),
            "shape": pd.Series([shapes[s.block_bytes] for s in samples], dtype=str),
            "block_bytes": sizes,
            "used_bytes": np.array([s.used for s in samples], dtype=np.int64),
            "allocated_bytes": np.array([s.allocated for s in samples], dtype=np.int64),
        }
    )


def live_costs(run: LiveRun) -> pd.DataFrame:
    """Return the costs that the policies planned with: a row per model, a column per number."""
    return pd.DataFrame([{"model": name, **_flat(cost)} for name, cost in run.costs.items()])


def _flat(cost: ModelCost) -> dict[str, object]:
    """Return a cost's fields with their part's name in front; a switch's as stored tables do."""
    parts = asdict(cost)
    prefill, decode, switch = (parts.pop(name) for name in ("prefill", "decode", "switch"))
    return {
        **{f"prefill_{key}": value for key, value in prefill.items()},
        **{f"decode_{key}": value for key, value in decode.items()},
        "switch_s": switch["host_s"],
        "activate_s": switch["activate_s"],
        **parts,
    }


def _track(live: LiveTrack, costs: CostModel) -> Track:
    track, spent = (
        Track(Arrival(live.request, live.due), costs[live.request.model]),
        live.breakdown(),
    )
    track.place = live.place
    track.generated = len(live.tokens)
    track.prefill_start, track.prefill_s = live.prefill_start, spent.prefill_s
    track.first_token = live.times[0] if live.times else float("nan")
    track.decode_s, track.kv_wait_s = spent.decode_s, spent.data_s
    track.finish, track.failed = live.finish, live.failure is not None
    return track
