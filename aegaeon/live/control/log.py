"""The run log, which scoring reads, from a live run's tracks and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from aegaeon.live.control.tracks import LiveRun, LiveTrack
from aegaeon.live.events import Moved, Switched
from aegaeon.runlog import KvMoves, RequestLog, RunLog, Switches, Timelines, Transfer


def run_log(run: LiveRun) -> RunLog:
    """Return the log of a finished run; request ids are 0 to n - 1."""
    return RunLog(
        requests=[_request(track) for track in run.tracks],
        timelines=_timelines(run.tracks),
        switches=_switches(run.switches),
        moves=_moves(run.moves),
        fleet=run.fleet,
        costs=run.costs,
        refusals=Counter([t.failure for t in run.tracks if t.failure is not None]),
        events=len(run.work),
        transfers=_transfers(run),
        faults=run.faults,
        pool=run.pool,
    )


def _request(track: LiveTrack) -> RequestLog:
    return RequestLog(
        request=track.request,
        output_tokens=track.live.due or len(track.tokens),
        prefill_start=track.prefill_start,
        first_token=track.times[0] if track.times else float("nan"),
        finish=track.finish,
        **asdict(track.breakdown()),
        sent=track.sent,
        restarts=track.restarts,
        failure=track.failure,
    )


def _timelines(tracks: Sequence[LiveTrack]) -> Timelines:
    """Return every measured token as an entry of its own."""
    times = [time for track in tracks for time in track.times]
    request = [track.request.id for track in tracks for _ in track.times]
    none = np.zeros(len(times))
    return Timelines(
        request=np.array(request, dtype=np.int64),
        count=np.ones(len(times), dtype=np.int64),
        start=np.array(times, dtype=np.float64),
        step=none,
        slope=none,
    )


def _switches(switches: Sequence[tuple[int, Switched]]) -> Switches:
    return Switches(
        time=np.array([s.time - s.seconds for _, s in switches], dtype=np.float64),
        instance=np.array([at for at, _ in switches], dtype=np.int64),
        seconds=np.array([s.seconds for _, s in switches], dtype=np.float64),
        prefetched=np.array([s.prefetched for _, s in switches], dtype=np.bool_),
        model=[s.model for _, s in switches],
        nbytes=np.array([s.nbytes for _, s in switches], dtype=np.float64),
    )


def _moves(moves: Sequence[tuple[int, Moved]]) -> KvMoves:
    """Return KV moves; a move belongs to one step, with one or more requests, in or out or both."""
    return KvMoves(
        time=np.array([m.time - m.seconds for _, m in moves], dtype=np.float64),
        instance=np.array([at for at, _ in moves], dtype=np.int64),
        seconds=np.array([m.seconds for _, m in moves], dtype=np.float64),
        nbytes=np.array([m.in_bytes + m.out_bytes for _, m in moves], dtype=np.float64),
        request=np.full(len(moves), -1, dtype=np.int64),
        out=np.array([m.in_bytes == 0 for _, m in moves], dtype=np.bool_),
        model=[m.model for _, m in moves],
    )


def _transfers(run: LiveRun) -> list[Transfer]:
    models = {track.request.id: track.request.model for track in run.tracks}
    return [
        Transfer(
            time=t.time - t.seconds,
            instance=t.instance,
            request=t.request,
            model=models[t.request],
            seconds=t.seconds,
            nbytes=t.nbytes,
        )
        for t in run.transfers
    ]
