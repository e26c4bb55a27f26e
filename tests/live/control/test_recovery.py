"""A dead instance costs time and no request: what the controller does, on fake instances."""

import re
from dataclasses import replace

import pytest

from aegaeon.core import Stage
from aegaeon.errors import UserError
from aegaeon.live.control.messages import Broken, Died, Reaped, Reported, Restarted
from aegaeon.live.control.recovery import FaultOptions
from aegaeon.live.control.tracks import LiveError
from aegaeon.live.events import Finished, HostKv, LiveRequest, Prefilled
from aegaeon.policy.interface import Placement
from tests.support.fake_transport import FakeInstance, instance, request, tokens

KV = HostKv(3, 64, ((0,),))


def dies_once(port, *said):
    """Make a port die at its first request, after saying something; later ones it serves."""
    serve = port.accept

    def accept(live):
        port.accept = serve
        port.got.append(live)
        port.say(*[event(live) if callable(event) else event for event in said])
        port.die()

    port.accept = accept


def test_a_decode_instance_dies_and_its_request_goes_on_after_its_tokens(bench):
    bench.instances[0].kv = KV
    dies_once(bench.instances[1], tokens(0.5, 0, 8, 9))
    run = bench.controller(request(0, out=6), restarts=2).run()
    (track,) = run.tracks
    assert (track.failure, track.restarts) == (None, 1)
    # One token of the first prefill, two of the dead instance, one of the second prefill, the rest.
    assert track.tokens == [7, 8, 9, 7, 0, 1]
    assert [live.generated for live in bench.instances[0].got] == [(), (7, 8, 9)]
    assert [live.generated for live in bench.instances[1].got] == [(7,), (7, 8, 9, 7)]
    assert bench.instances[0].got[1].kv is None
    assert bench.instances[1].reaped == [([0], True)]
    (fault,) = run.faults
    assert (fault.instance, fault.requests) == (1, 1)
    assert fault.seconds > 0
    down, up = [bench.dispatcher.heard.index((1, is_up)) for is_up in (False, True)]
    assert down < bench.dispatcher.heard.index((0, Stage.DECODE, 1)) < up


def test_a_prefill_instance_dies_before_and_after_the_first_token(bench):
    dies_once(bench.instances[0])
    run = bench.controller(request(0), restarts=1).run()
    assert run.tracks[0].tokens == [7, 0, 1]
    dies_once(bench.instances[0], tokens(0.5, 0, 7))
    again = bench.controller(request(0), restarts=1).run()
    assert again.tracks[0].tokens == [7, 7, 0]


def test_a_request_with_all_its_tokens_is_finished(bench):
    dies_once(bench.instances[1], tokens(0.5, 0, 1, 2))
    run = bench.controller(request(0), restarts=1).run()
    (track,) = run.tracks
    assert (track.tokens, track.finish) == ([7, 1, 2], 0.5)


def test_what_a_dead_instance_says_late_is_not_heard(bench):
    port = bench.instances[1]
    dies_once(port)
    restart = port.restart

    def late(requests, again):
        stale = port.epoch
        restart(requests, again)
        events = [tokens(0.9, 0, 5, 5), Finished(0.9, 0, "length")]
        bench.inbox.put(Reported(1, stale, events))
        bench.inbox.put(Died(1, stale, "again"))

    port.restart = late
    run = bench.controller(request(0), restarts=1).run()
    assert run.tracks[0].tokens == [7, 7, 0]
    assert len(run.faults) == 1


def test_requests_go_on_once_the_dead_instance_is_reaped(bench):
    port, order = bench.instances[1], []
    dies_once(port)
    accept = bench.instances[0].accept
    bench.instances[0].accept = lambda live: (order.append(live.spec.id), accept(live))

    def slow(requests, again):
        port.epoch += 1
        order.append("dead")

    def tick(sent):
        if sent == 2:
            order.append("reaped")
            bench.inbox.put(Reaped(1, 1))
            bench.inbox.put(Restarted(1, 1))

    port.restart = slow
    controller = bench.controller(
        request(0), request(1, arrival=0.3), stall_s=0.01, restarts=1, progress=tick
    )
    run = controller.run()
    assert [t.failure for t in run.tracks] == [None, None]
    # Its KV of a second prefill would be freed with what the dead instance was sent.
    assert order == [0, "dead", 1, "reaped", 0]


def test_who_waited_for_an_instance_that_dies_again_is_reaped_with_it(bench):
    bench.instances[0].kv = KV
    port = bench.instances[1]
    dies_once(port)
    restart, asked = port.restart, []

    def fails_first(requests, again):
        asked.append((sorted(requests), again))
        if len(asked) == 1:
            port.epoch += 1
        else:
            restart(requests, again)

    def tick(sent):
        if sent == 2:
            bench.inbox.put(Died(1, 1, "does not end"))

    port.restart = fails_first
    controller = bench.controller(
        request(0), request(1, arrival=0.3), stall_s=0.01, restarts=2, progress=tick
    )
    run = controller.run()
    assert [t.failure for t in run.tracks] == [None, None]
    assert asked[0] == ([0], True)
    assert asked[1][0][0] == 0


def test_requests_wait_for_an_instance_that_comes_back(bench):
    port = bench.instances[1]
    dies_once(port)
    restart, order = port.restart, []

    def slow(requests, again):
        restart(requests, again=False)
        order.append("dead")

    port.restart = slow
    accept = port.accept
    port.accept = lambda live: (order.append("sent"), accept(live))

    def tick(sent):
        if sent == 2:
            order.append("ready")
            bench.inbox.put(Restarted(1, 1))

    controller = bench.controller(
        request(0), request(1, arrival=0.3), stall_s=0.01, restarts=1, progress=tick
    )
    port.accept = accept
    run = controller.run()
    assert [t.failure for t in run.tracks] == [None, None]
    assert order == ["dead", "ready"]


def test_requests_go_to_another_instance_of_the_stage(bench):
    bench.fleet += (instance(2, Stage.DECODE),)
    bench.instances[2] = FakeInstance(2, Stage.DECODE, bench.inbox, bench.clock)
    dies_once(bench.instances[1])

    def place(request, stage, now):
        down = (1, False) in bench.dispatcher.heard
        return 0 if stage is Stage.PREFILL else 2 if down else 1

    bench.dispatcher.place = place
    run = bench.controller(request(0), request(1, arrival=0.05), restarts=0).run()
    assert [t.failure for t in run.tracks] == [None, None]
    assert bench.instances[1].reaped == [([0], False)]
    assert [live.spec.id for live in bench.instances[2].got] == [0, 1]
    assert not bench.instances[1].stopped
    assert run.faults[0].seconds != run.faults[0].seconds


def test_held_requests_that_the_dispatcher_lets_go_are_sent(bench):
    held = request(1)
    bench.dispatcher.answers = {(1, Stage.PREFILL): None}
    bench.dispatcher.released = {(0, True): [Placement(held.spec, 0)]}
    dies_once(bench.instances[0])
    run = bench.controller(request(0), held, restarts=1).run()
    assert [t.failure for t in run.tracks] == [None, None]


def test_kv_under_way_to_a_dead_instance_is_discarded_where_it_lands(bench):
    landed = HostKv(3, 64, ((5,),))
    first, second = bench.instances[0], bench.instances[1]
    first.kv, first.lands, second.node = KV, landed, "b"
    transfer, late = first.transfer, []

    def slow(*journey):
        first.kv, first.transfer = None, transfer
        late.append(journey)
        second.die()

    first.transfer = slow
    restart = second.restart

    def then(requests, again):
        restart(requests, again)
        transfer(*late[0])

    second.restart = then
    run = bench.controller(request(0), restarts=1).run()
    assert second.reaped == [([], True)]
    assert second.discarded == [landed]
    assert [live.kv for live in second.got] == [None]
    assert run.tracks[0].tokens == [7, 7, 0]


def test_n_sequences_cannot_be_continued(bench):
    live = LiveRequest(request(0).spec, (1, 2), {"n": 2}, due=3)
    dies_once(
        bench.instances[1],
        tokens(0.5, 0, 1),
    )
    run = bench.controller(live, request(1, arrival=0.05), restarts=1).run()
    assert run.tracks[0].failure == "its instance died, and n > 1 sequences cannot be continued"
    assert run.tracks[1].failure is None


@pytest.mark.parametrize(
    ("restarts", "says"),
    [
        (None, "1 died; 1 requests were open"),
        (0, "1 died; 1 requests were open; it died 1 times (backend.restarts = 0) and no other"),
        (2, "it died 3 times (backend.restarts = 2) and no other decode instance is left"),
    ],
)
def test_an_instance_that_keeps_dying_ends_the_run(bench, restarts, says):
    bench.instances[1].accept = lambda live: bench.instances[1].die()
    with pytest.raises(LiveError, match=re.escape(says)):
        bench.controller(request(0, out=9), restarts=restarts).run()


def test_a_lost_agent_ends_the_run(bench):
    def lose(live):
        bench.inbox.put(Broken("node a: its agent died"))

    bench.instances[1].accept = lose
    with pytest.raises(LiveError, match="node a: its agent died; 1 requests were open"):
        bench.controller(request(0), restarts=2).run()


def test_a_death_after_the_last_token_loses_nothing(bench):
    port = bench.instances[1]
    port.stop = port.die
    run = bench.controller(request(0), restarts=1).run()
    assert run.tracks[0].failure is None
    assert port.reaped == [([], False)]
    assert run.faults == []


def test_wrong_options_are_refused():
    with pytest.raises(
        UserError, match=r"backend\.on_fault: must be one of recover, fail, got 'stop'"
    ):
        FaultOptions("stop")
    with pytest.raises(UserError, match=r"backend\.restarts: must be at least 0, got -1"):
        FaultOptions("recover", -1)


def test_a_handed_over_request_is_not_the_dead_prefill_instances_any_more(bench):
    bench.instances[0].kv = KV

    def hand_over(live):
        return Prefilled(0.4, replace(live, generated=(7,), kv=KV))

    dies_once(bench.instances[0], tokens(0.4, 0, 7), hand_over)
    run = bench.controller(request(0), restarts=1).run()
    assert bench.instances[0].reaped == [([], True)]
    assert bench.instances[1].got[0].kv == KV
    assert run.tracks[0].tokens == [7, 0, 1]
