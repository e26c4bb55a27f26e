"""The controller does with live instances what the simulator does with simulated ones."""

import math
import re
import threading
from dataclasses import asdict, replace

import pytest

from aegaeon.core import Stage
from aegaeon.live.control.messages import Died, Ended, Reported, Submitted
from aegaeon.live.control.tracks import LiveError
from aegaeon.live.events import Failed, Finished, HostKv, Moved, Ran, Switched
from aegaeon.policy.interface import Placement, Refusal
from aegaeon.policy.lifecycle import GONE, ConservationError
from tests.support.fake_transport import UNKNOWN_LENGTH, request, tokens

KV = HostKv(3, 64, ((0,),))


def test_requests_go_out_at_their_times_and_come_back_whole(bench):
    run = bench.controller(request(0, arrival=0.02), request(1, arrival=0.01, out=5)).run()
    assert [r.spec.id for r in bench.instances[0].got] == [1, 0]
    assert [r.generated for r in bench.instances[1].got] == [(7,), (7,)]
    for track in run.tracks:
        assert track.place == GONE
        assert track.failure is None
        assert len(track.tokens) == len(track.times) == track.live.due
        assert track.request.arrival <= track.sent <= track.times[0]
        assert track.times == sorted(track.times)
        assert track.finish >= track.times[-1]
        assert [stay.instance for stay in track.stays] == [0, 1]
        spent = sum(asdict(track.breakdown()).values())
        assert spent == pytest.approx(track.finish - track.request.arrival, abs=1e-6)
    assert len(bench.dispatcher.heard) == 4
    assert set(bench.dispatcher.heard) == {
        (i, stage, at) for i in (0, 1) for stage, at in ((Stage.PREFILL, 0), (Stage.DECODE, 1))
    }


def test_refused_requests_fail_with_the_policys_reason(bench):
    bench.dispatcher.answers = {
        (0, Stage.PREFILL): Refusal("too late"),
        (1, Stage.DECODE): Refusal("no room"),
    }
    bench.instances[0].kv = KV
    run = bench.controller(request(0), request(1), request(2)).run()
    assert [t.failure for t in run.tracks] == ["too late", "no room", None]
    assert math.isnan(run.tracks[0].finish)
    assert bench.instances[0].discarded == [KV]
    assert bench.instances[1].got[0].kv == KV


def test_a_held_request_goes_when_the_dispatcher_says_so(bench):
    held = request(1)
    bench.dispatcher.answers = {(1, Stage.PREFILL): None}
    bench.dispatcher.released = {(0, Stage.DECODE): [Placement(held.spec, 0)]}
    run = bench.controller(request(0), held).run()
    assert [t.failure for t in run.tracks] == [None, None]
    first, late = run.tracks
    assert late.times[0] >= first.finish
    # What the dispatcher holds back is in a queue.
    assert late.breakdown().prefill_wait_s >= first.finish - late.sent


@pytest.mark.parametrize("lands", [HostKv(3, 64, ((5,),)), None])
def test_kv_goes_to_the_node_of_the_request_if_there_is_room(bench, lands):
    bench.instances[0].kv, bench.instances[1].node = KV, "b"
    bench.instances[0].lands = lands
    run = bench.controller(request(0)).run()
    assert bench.instances[0].discarded == []
    assert bench.instances[1].got[0].kv == lands
    (track,) = run.tracks
    assert track.failure is None
    assert track.carried[0][1] - track.carried[0][0] == pytest.approx(0.01)
    assert [(t.instance, t.nbytes) for t in run.transfers] == [(1, 64)]


def test_a_failed_request_frees_its_place(bench):
    bench.instances[1].answer = lambda live: [Failed(1.0, live.spec.id, "no engine")]
    run = bench.controller(request(0)).run()
    assert run.tracks[0].failure == "no engine"
    assert (0, Stage.DECODE, 1) in bench.dispatcher.heard


def test_work_after_the_last_token_is_counted(bench):
    port = bench.instances[1]
    late = [
        Moved(0.9, "m", 0.2, 0, 64),
        Moved(1.4, "m", 0.1, 0, 64),
        Ran(1.0, 2.0, "decode", "m", (0,), 2, 0.9, 0.3, 0.2),
        Switched(0.7, "m", 0.3, 10, True),
    ]

    def stop():
        port.say(*late)
        bench.inbox.put(Ended(1, 0))

    port.stop = stop
    run = bench.controller(request(0)).run()
    assert run.tracks[0].breakdown().data_s == pytest.approx(0.3)
    assert run.tracks[0].breakdown().decode_s == pytest.approx(0.9)
    assert [instance for instance, _ in run.switches] == [1]
    assert len(run.moves) == 2


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (Died(1, 0, "instance 1 (decode) died"), "instance 1 (decode) died; 1 requests were"),
        (Ended(1, 0), "instance 1 ended, 1 requests open"),
        (Reported(1, 0, [Finished(1.0, 0, "length")]), "request 0: 1 tokens made, 3 asked for"),
        (Reported(0, 0, [Finished(1.0, 0, "length")]), "request 0: 1 tokens made, 3 asked for"),
        (Reported(0, 0, [Failed(1.0, 0, "odd")]), "request 0 is at 1, not at 0"),
        (None, "nothing happened for 0.05 s; 1 requests are open, first [0]"),
    ],
)
def test_a_broken_run_says_why(bench, message, says):
    bench.instances[1].mute = True
    if message is not None:
        bench.instances[1].accept = lambda live: bench.inbox.put(message)
    with pytest.raises((LiveError, ConservationError), match=re.escape(says)):
        bench.controller(request(0)).run()


def test_waiting_for_an_arrival_is_no_stall(bench):
    run = bench.controller(request(0, arrival=0.3), stall_s=0.01).run()
    assert run.tracks[0].failure is None


def test_a_token_too_many_is_noticed(bench):
    bench.instances[1].answer = lambda live: [
        tokens(1.0, 0, 1, 2, 3, 4),
        Finished(1.0, 0, "length"),
    ]
    with pytest.raises(LiveError, match="5 tokens made, 3 asked for"):
        bench.controller(request(0)).run()


class Clients:
    """A source whose requests nobody knows beforehand: one comes, then another once it is done."""

    def __init__(self, bench, *requests):
        self.bench, self.todo, self.told = bench, list(requests), False

    def due(self, now):
        if not self.told or not self.todo:
            return []
        self.told = False
        threading.Timer(0.02, self.submit).start()
        return [self.todo.pop(0)]

    def submit(self):
        self.told = True
        self.bench.inbox.put(Submitted())

    def next_at(self):
        return math.inf if self.todo else None


def test_requests_of_unknown_times_and_lengths_are_served_as_they_come(bench):
    wanted = [replace(request(ident), due=None) for ident in range(3)]
    clients = Clients(bench, *wanted)
    clients.submit()
    run = bench.controller(source=clients, stall_s=0.5).run()
    assert [len(t.tokens) for t in run.tracks] == [UNKNOWN_LENGTH] * 3
    assert [t.failure for t in run.tracks] == [None] * 3
    assert run.tracks[0].finish < run.tracks[1].sent
