"""A request's time is accounted for to the last microsecond; needs neither torch nor vLLM."""

import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegaeon.core import DecodeCost, ModelCost, PrefillCost, Request, Slo, SwitchCost
from aegaeon.live.control.log import run_log
from aegaeon.live.control.tracks import LiveRun, LiveTrack
from aegaeon.live.events import LiveRequest, Moved, Ran, Switched
from aegaeon.policy.lifecycle import GONE
from aegaeon.runlog import PoolSample
from aegaeon.scoring.score import score_run
from aegaeon.scoring.tables import PARTS, costs_table, events_table, pool_table, requests_table

span = st.floats(0, 10)
piece = st.tuples(span, span, span, span, span)
COST = ModelCost(
    PrefillCost(0.0, 1e-3, 1e-5, 0.0),
    DecodeCost(2e-3, 0.0, 0.0),
    SwitchCost(2e-3, 5e-4),
    1.6e6,
    1024,
)


def live(arrival=0.0, out=2):
    return LiveRequest(Request(0, "m", arrival, 4), (1, 2, 3, 4), due=out)


class Story:
    """Lives through a request's time and keeps the books beside the track."""

    def __init__(self, arrival):
        self.track = LiveTrack(live(arrival))
        self.now = arrival
        self.due = dict.fromkeys(PARTS, 0.0)

    def spend(self, part, seconds):
        self.now += seconds
        self.due[part] += seconds

    def work(self, kind, spent):
        """Wait, bring KV, run, copy KV, tidy up."""
        waited, lead, busy, copied, rest = spent
        waits = "decode_wait_s" if self.track.times else "prefill_wait_s"
        self.spend(waits, waited)
        self.spend("data_s", lead)
        start = self.now
        self.spend(f"{kind}_s", busy)
        self.spend("data_s", copied)
        self.spend("control_s", rest)
        return Ran(start, self.now, kind, "m", (0,), 1, busy, lead + copied, lead)


@given(st.floats(0, 1e3), span, span, piece, span, span, st.lists(piece, min_size=1), span)
def test_the_parts_are_what_was_spent_and_add_up(
    arrival, sent, queued, first, copied, away, turns, tidying
):
    story = Story(arrival)
    track = story.track
    story.spend("control_s", sent)
    track.queue(story.now)
    story.spend("prefill_wait_s", queued)
    track.unqueue(story.now)
    track.arrive(0, story.now)
    ran = story.work("prefill", first)
    track.times.append(story.now)
    track.depart(story.now)
    story.spend("control_s", away)
    track.arrive(1, story.now)
    # What a turn took is told after the request has left, and goes on without it.
    track.ran(0, replace(ran, end=ran.end + tidying))
    pieces = [story.work("decode", turn) for turn in turns]
    for before in pieces[:-1]:
        track.ran(1, before)
    track.ran(1, replace(pieces[-1], end=story.now + tidying))
    track.times.append(story.now)
    track.finish = story.now
    parts = asdict(track.breakdown())
    assert parts == pytest.approx(story.due, abs=1e-6)
    assert sum(parts.values()) == pytest.approx(track.finish - arrival, abs=1e-6)
    assert track.prefill_start == ran.start


def test_a_second_stay_at_one_instance_gets_its_own_work():
    track = LiveTrack(live())
    track.arrive(0, 1.0)
    track.arrive(0, 5.0)
    track.ran(0, Ran(2.0, 3.0, "prefill", "m", (0,), 1, 1.0))
    track.ran(0, Ran(6.0, 8.0, "prefill", "m", (0,), 1, 1.5))
    assert [len(stay.pieces) for stay in track.stays] == [1, 1]
    assert track.stays[0].left == 5.0


def test_work_of_no_stay_is_ignored():
    track = LiveTrack(live())
    track.ran(0, Ran(2.0, 3.0, "prefill", "m", (0,), 1, 1.0))
    track.depart(4.0)
    assert track.stays == []
    assert math.isnan(track.prefill_start)


def test_an_unfinished_request_has_no_breakdown():
    track = LiveTrack(live())
    track.arrive(0, 1.0)
    assert all(math.isnan(seconds) for seconds in asdict(track.breakdown()).values())


@pytest.fixture
def run():
    done = LiveTrack(live(), GONE, sent=0.5, tokens=[7, 8], times=[3.0, 5.0], finish=5.0)
    done.arrive(0, 1.0)
    done.ran(0, Ran(2.0, 3.0, "prefill", "m", (0,), 1, 0.75, 0.125))
    done.ran(0, Ran(4.0, 5.0, "decode", "m", (0,), 1, 1.0, 0.5, 0.5))
    done.depart(5.0)
    lost = LiveTrack(
        LiveRequest(Request(1, "n", 1.0, 4), (), due=2), GONE, sent=1.0, failure="full"
    )
    samples = [
        PoolSample(0.1, "x", 512, 512, 4096),
        PoolSample(0.1, "x", 128, 0, 4096),
        PoolSample(0.2, "y", 512, 1024, 4096),
    ]
    return LiveRun(
        [done, lost],
        (),
        [(0, Switched(2.0, "m", 0.25, 640, True))],
        [(0, Moved(4.0, "n", 0.5, 64, 192))],
        [],
        {"m": COST},
        samples,
    )


def test_the_tables_of_a_run(run):
    log, types = run_log(run), {"m": "kind", "n": "b"}
    requests = requests_table(log, score_run(log, Slo(10.0, 1.0)), types)
    events = events_table(log, types)
    parts = dict(zip(PARTS, requests.loc[0, list(PARTS)], strict=True))
    assert parts == pytest.approx(
        {
            "prefill_wait_s": 1.0,
            "prefill_s": 0.75,
            "decode_wait_s": 0.5,
            "decode_s": 1.0,
            "control_s": 1.125,
            "data_s": 0.625,
        }
    )
    assert requests["type"].tolist() == ["kind", "b"]
    assert requests["failure"].tolist() == ["", "full"]
    assert requests.loc[1, list(PARTS)].isna().all()
    assert events.to_dict("records") == [
        event("switch", 1.75, "m", "kind", 0.25, 640.0, True),
        event("kv_move", 3.5, "n", "b", 0.5, 256.0, False),
    ]
    assert costs_table(log.costs).iloc[0].to_dict() == {
        "model": "m",
        "prefill_floor_s": 0.0,
        "prefill_base_s": 1e-3,
        "prefill_token_s": 1e-5,
        "prefill_token_sq_s": 0.0,
        "prefill_curve": (),
        "prefill_prompt_s": 0.0,
        "decode_base_s": 2e-3,
        "decode_context_s": 0.0,
        "decode_request_s": 0.0,
        "decode_curve": (),
        "switch_s": 2e-3,
        "activate_s": 5e-4,
        "weight_bytes": 1.6e6,
        "kv_bytes_per_token": 1024,
        "source": "unknown",
    }


def event(kind, time, model, type_, seconds, nbytes, prefetched):
    return {
        "kind": kind,
        "time_s": time,
        "instance": 0,
        "model": model,
        "type": type_,
        "seconds": seconds,
        "bytes": nbytes,
        "prefetched": prefetched,
    }


def test_shapes_are_ordered_by_their_blocks(run):
    pool = pool_table(run.pool)
    assert pool["shape"].tolist() == ["S1", "S0", "S1"]
    assert pool["node"].tolist() == ["0", "0", "1"]
    assert pool["used_bytes"].tolist() == [512, 0, 1024]


def test_a_run_without_events_has_empty_tables(run):
    assert pool_table([]).columns.tolist() == pool_table(run.pool).columns.tolist()
    assert len(pool_table([])) == 0
