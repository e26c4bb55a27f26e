"""Whole-model switching: who waits, who passes whom, what is computed again; all finish."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegaeon.core import GB, Decode, Idle, Outcome, Prefill, Request, Stage
from aegaeon.errors import UserError
from aegaeon.policy.decode import OUTPUT_RESERVE
from baselines.model_turns import ModelTurns
from baselines.serverlessllm.ours import ServerlessLLM
from baselines.sleep_mode import SWITCHES, SleepMode, StickyRouter
from tests.support.small_market import arriving, cost, deployment, simulate, token_times

COSTS = {name: cost() for name in "abcd"}
PREEMPT = SleepMode(switch="preempt", slice_share=0.05)


def turns(*rows, kv_bytes=100 * GB, **options):
    """A host's queue with requests from (model, prompt tokens), numbered from 0."""
    queue = ModelTurns(COSTS, kv_bytes, **options)
    for i, (model, tokens) in enumerate(rows):
        queue.add(Request(i, model, 0.0, tokens), 0.0)
    return queue


def ids(work):
    return [request.id for request in work.requests]


def do(queue, seconds, steps=1, finished=(), skipped=()):
    """Carry the queue's next work out and return it."""
    work = queue.next_work(0.0)
    done = tuple([r for r in work.requests if r.id in finished])
    left = tuple([r for r in work.requests if r.id in skipped])
    queue.record(work, Outcome(0.0, seconds, steps, done, left), seconds)
    return work


def test_a_model_runs_until_its_requests_are_done():
    queue = turns(("a", 9), ("b", 9), ("a", 9))
    assert ids(do(queue, 9.0)) == [0, 2]
    assert not queue.add(Request(3, "c", 0.0, 9), 0.0)
    assert ids(do(queue, 9.0, finished=[0])) == [0, 2]
    # A request of the running model passes those that wait.
    assert queue.add(Request(4, "a", 0.0, 9), 0.0)
    assert ids(do(queue, 9.0)) == [4]
    assert ids(do(queue, 9.0, finished=[2, 4])) == [2, 4]
    assert ids(do(queue, 9.0, finished=[1])) == [1]
    assert ids(do(queue, 9.0, finished=[3])) == [3]
    assert queue.next_work(0.0) == Idle()


def test_in_order_nobody_passes_a_request_that_waits():
    queue = turns(("a", 9), ("b", 9), ("a", 9), ("a", 9), in_order=True)
    order = [ids(do(queue, 1.0, finished=[i, i + 1])) for i in (0, 1, 2)]
    assert order == [[0], [1], [2, 3]]


def test_a_slice_ends_only_if_another_model_waits():
    queue = turns(("a", 9), slice_s=2.0)
    do(queue, 1.0)
    assert do(queue, 9.0, 10).quota == math.inf
    assert queue.add(Request(1, "b", 0.0, 9), 9.0)
    assert not queue.add(Request(2, "c", 0.0, 9), 9.0)
    assert isinstance(do(queue, 0.5), Prefill)
    decode = do(queue, 1.5, 9)
    assert isinstance(decode, Decode)
    assert decode.quota == pytest.approx(1.5)
    assert [do(queue, 3.0).model for _ in range(4)] == ["c", "a", "b", "c"]


def test_what_a_slice_interrupts_is_computed_again_before_those_that_never_ran():
    room = (2 * (4000 + OUTPUT_RESERVE)) * 1e6
    queue = turns(("a", 4000), ("a", 4000), ("a", 4000), ("b", 9), kv_bytes=room, slice_s=1.0)
    assert ids(do(queue, 0.4)) == [0, 1]
    assert isinstance(do(queue, 0.6, 200), Decode)
    assert ids(do(queue, 1.0, finished=[3])) == [3]
    again = do(queue, 0.1)
    assert isinstance(again, Prefill)
    # With what they have generated, two prompts no longer fit into one prefill.
    assert ids(again) == [0]
    assert ids(do(queue, 0.1)) == [1]
    assert isinstance(queue.next_work(0.0), Decode)


def test_prompts_that_found_no_room_are_tried_again():
    queue = turns(("a", 9), ("a", 9))
    assert ids(do(queue, 0.1, skipped=[1])) == [0, 1]
    assert ids(do(queue, 0.1)) == [1]
    assert ids(queue.next_work(0.0)) == [0, 1]


def test_cancelled_requests_are_forgotten_wherever_they_are():
    queue = turns(("a", 9), ("b", 9), ("b", 9), slice_s=5.0)
    do(queue, 1.0)
    gone = [Request(i, m, 0.0, 9) for i, m in enumerate("abb")]
    queue.cancel(gone[1], 1.0)
    queue.cancel(gone[0], 1.0)
    assert ids(do(queue, 4.0)) == [2]
    queue.cancel(gone[2], 2.0)
    assert queue.next_work(2.0) == Idle()


def router(gpus=2, kv_bytes=10 * GB):
    system = SleepMode()
    plan = deployment(COSTS, gpus, kv_bytes, weight_slots=1)
    made = system.dispatcher(plan, system.fleet(plan))
    assert isinstance(made, StickyRouter)
    return made


def test_a_models_requests_stay_together_while_their_kv_fits():
    front = router(kv_bytes=2 * (100 + OUTPUT_RESERVE) * 1e6)
    sent = [Request(i, m, 0.0, 100) for i, m in enumerate("aabaabc")]
    assert [front.place(r, Stage.FULL, 0.0) for r in sent] == [0, 0, 1, 1, 1, 1, 0]


def test_an_idle_host_that_still_holds_the_model_comes_first():
    front = router(gpus=3)
    sent = [Request(i, m, 0.0, 100) for i, m in enumerate("abc")]
    for request, host in zip(sent, (0, 1, 2), strict=True):
        assert front.place(request, Stage.FULL, 0.0) == host
    for request, host in zip(sent, (0, 1, 2), strict=True):
        assert front.finished(request, Stage.FULL, host, 1.0) == ()
    assert front.place(sent[2], Stage.FULL, 1.0) == 2
    assert front.available(1, False, 1.0) == ()
    assert front.place(sent[1], Stage.FULL, 1.0) == 0
    assert front.available(1, True, 1.0) == ()
    assert front.place(Request(9, "d", 1.0, 100), Stage.FULL, 1.0) == 1


def test_options_no_tool_has_are_refused():
    plan = deployment(COSTS, weight_slots=1)
    for wrong in (SleepMode(switch="abort"), SleepMode(slice_share=0.0)):
        with pytest.raises(UserError, match=r"^system\.(switch|slice_share): must be "):
            wrong.fleet(plan)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abcd"), st.integers(1, 9000)),
        st.tuples(st.integers(1, 60), st.floats(0.01, 3.0), st.integers(0, 9)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(events=EVENTS, switch=st.sampled_from(SWITCHES), room=st.sampled_from([1.0, 2.5, 100.0]))
def test_there_is_always_work_of_one_model_and_all_get_done(events, switch, room):
    kv_bytes = room * (1000 + OUTPUT_RESERVE) * 1e6
    slice_s = 1.0 if switch == "preempt" else math.inf
    queue = ModelTurns(COSTS, kv_bytes, slice_s, switch == "in_order")
    open_, cached, served = {}, set(), []

    def turn(steps, seconds, pick):
        work = queue.next_work(0.0)
        assert isinstance(work, Idle) != bool(open_)
        if isinstance(work, Idle):
            return
        assert {r.model for r in work.requests} == {work.model}
        if work.model != (served[-1] if served else None):
            cached.clear()
        served.append(work.model)
        mine = {r.id for r in work.requests}
        assert mine <= open_.keys()
        # Who has no KV is prefilled, who has is decoded.
        assert cached.isdisjoint(mine) if isinstance(work, Prefill) else mine == cached
        both = [r for r in open_.values() if r.id in mine | cached]
        assert (
            len(both) == 1 or sum(r.input_tokens + OUTPUT_RESERVE for r in both) * 1e6 <= kv_bytes
        )
        cached.update(mine)
        done = tuple(work.requests[:pick])
        queue.record(work, Outcome(0.0, seconds, steps, done), 0.0)
        for request in done:
            del open_[request.id]
            cached.discard(request.id)

    for ident, event in enumerate(events):
        if len(event) == 2:
            open_[ident] = Request(ident, event[0], 0.0, event[1])
            queue.add(open_[ident], 0.0)
        else:
            turn(*event)
    for _ in range(3 * len(open_)):
        turn(1, 0.1, 1)
    assert not open_
    assert queue.next_work(0.0) == Idle()


@settings(deadline=None)
@given(models=st.lists(st.sampled_from("abcd"), min_size=2, max_size=20))
def test_slices_go_round(models):
    """Between two turns of a model, every other model with requests has had one."""
    queue = turns(*[(model, 9) for model in models], slice_s=1.0)
    order = [do(queue, 1.0).model for _ in range(3 * len(set(models)))]
    if len(set(models)) > 1:
        assert order == list(dict.fromkeys(models)) * 3


def test_interrupted_requests_are_prefilled_again_with_all_their_tokens():
    costs = {name: cost(prefill_token_s=0.01, prefill_base_s=0.0) for name in "ab"}
    plan = deployment(costs, 1, weight_slots=1)
    arrivals = arriving(("a", 0.0, 10, 40), ("b", 0.0, 10, 40))
    result = simulate(PREEMPT, plan, arrivals)
    first = token_times(result)[0]
    # A slice is 0.5 s: a prefill of 10 tokens and 20 steps; then b's, then 31 tokens anew.
    assert first[20] == pytest.approx(1.0 + 0.1 + 0.4)
    assert first[21] == pytest.approx(first[20] + (1.0 + 0.1 + 0.4) + (1.0 + 0.31))
    assert len(first) == 40
    assert not len(result.moves.seconds)


def test_draining_blocks_a_third_model_and_slices_do_not():
    """Head-of-line blocking, which time slices avoid at the price of computing again."""
    arrivals = arriving(("a", 0.0, 100, 300), ("b", 0.1, 100, 5))
    plan = deployment(COSTS, 1, weight_slots=1)
    drained, sliced, served = (
        token_times(simulate(system, plan, arrivals))
        for system in (SleepMode(), PREEMPT, ServerlessLLM())
    )
    assert drained[1][0] == pytest.approx(drained[0][-1] + 1.1)
    assert drained[1][0] == pytest.approx(served[1][0])
    assert sliced[1][0] < drained[1][0] / 2
    assert sliced[0][-1] > drained[0][-1]


def test_copying_weights_out_makes_a_switch_twice_as_long():
    arrivals = arriving(("a", 0.0, 100, 1), ("b", 5.0, 100, 1))
    plan = deployment(COSTS, 1, weight_slots=1)
    for copy_out, seconds in ((False, 1.0), (True, 2.0)):
        result = simulate(SleepMode(copy_out=copy_out), plan, arrivals)
        assert list(result.switches.seconds) == pytest.approx([seconds] * 2)
