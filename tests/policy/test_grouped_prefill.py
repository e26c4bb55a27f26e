from dataclasses import replace

import pytest

from aegaeon.core import Idle, Outcome, Prefill, Request, Stage, SwitchCost
from aegaeon.policy.prefill import GroupQueue, PrefillDispatcher, PrefillScheduler
from aegaeon.policy.system import Aegaeon
from tests.support.small_market import arriving, cost, deployment

COSTS = {
    "a": cost(),
    "b": cost(prefill_base_s=0.0, prefill_token_s=0.001, prefill_token_sq_s=1e-6),
    "c": cost(),
    "d": cost(),
    "slow": cost(switch_s=9.0),
}


def fleet(instances):
    plan = deployment(COSTS, gpus=instances + 1)
    return Aegaeon(prefill=instances, decode=1).fleet(plan)[:instances]


def dispatcher(instances, **options):
    return PrefillDispatcher(fleet(instances), COSTS, **options)


def request(ident, model, tokens=100):
    return Request(ident, model, 0.0, tokens)


def place(policy, ident, model, tokens=100):
    return policy.place(request(ident, model, tokens), Stage.PREFILL, 0.0)


def test_an_open_group_on_any_instance_wins_over_an_empty_instance():
    policy = dispatcher(3)
    assert [place(policy, i, model) for i, model in enumerate("ab")] == [0, 1]
    assert [place(policy, i, "b") for i in range(2, 6)] == [1] * 4
    assert place(policy, 6, "a") == 0


def test_the_ninth_request_opens_a_group_and_finished_ones_still_count():
    policy = dispatcher(2)
    members = [request(i, "a") for i in range(8)]
    assert {policy.place(r, Stage.PREFILL, 0.0) for r in members} == {0}
    for member in members[:7]:
        policy.finished(member, Stage.PREFILL, 0, 1.0)
    assert place(policy, 8, "a") == 1
    assert place(policy, 9, "a") == 1


def test_shrinking_groups_of_the_artifact_take_a_ninth():
    policy = dispatcher(2, accumulative=False)
    members = [request(i, "a") for i in range(8)]
    assert {policy.place(r, Stage.PREFILL, 0.0) for r in members} == {0}
    policy.finished(members[0], Stage.PREFILL, 0, 1.0)
    assert place(policy, 8, "a") == 0


def test_load_is_execution_and_switch_seconds():
    policy = dispatcher(2)
    assert place(policy, 0, "slow") == 0
    # 9.1 s of load against none.
    assert place(policy, 1, "b", tokens=2000) == 1
    # 9.1 against 1 + 2 + 4.
    assert place(policy, 2, "a") == 1
    # 9.1 against 8.1 and a second prefill in the group of "a".
    assert place(policy, 3, "a") == 1
    assert place(policy, 4, "c") == 1
    # 9.1 against 9.3.
    assert place(policy, 5, "d") == 0


def test_load_of_the_artifact_is_a_number_of_requests():
    policy = dispatcher(2, count_requests=True)
    assert [place(policy, i, m) for i, m in enumerate(["slow", "b", "a", "a", "c"])] == [
        *(0, 1, 0, 0, 1)
    ]


def test_a_finished_request_takes_its_load_and_the_last_one_the_switch():
    policy = dispatcher(2)
    first, second = request(0, "slow"), request(1, "slow")
    assert policy.place(first, Stage.PREFILL, 0.0) == policy.place(second, Stage.PREFILL, 0.0) == 0
    policy.finished(first, Stage.PREFILL, 0, 1.0)
    assert place(policy, 2, "a") == 1
    policy.finished(second, Stage.PREFILL, 0, 2.0)
    assert place(policy, 3, "b") == 0


def scheduler(*models, max_group=8, prefetch=True, accumulative=True):
    queue = PrefillScheduler(max_group, accumulative, prefetch)
    for ident, name in enumerate(models):
        assert queue.add(request(ident, name), 0.0) is False
    return queue


def drain(queue):
    works = []
    while isinstance(work := queue.next_work(0.0), Prefill):
        works.append(work)
        queue.record(work, Outcome(0.0, 0.1, 1), 0.1)
    return works


def test_groups_run_in_order_of_their_first_request_and_fcfs_inside():
    works = drain(scheduler("a", "b", "a", "slow", "b", "a"))
    assert [len(w.requests) for w in works] == [1] * 6
    assert [w.requests[0].id for w in works] == [0, 2, 5, 1, 4, 3]


def test_the_hint_is_the_next_groups_model():
    works = drain(scheduler("a", "b", "a", "slow"))
    assert [w.prefetch for w in works] == ["b", "b", "slow", None]
    assert [w.prefetch for w in drain(scheduler("a", "b", prefetch=False))] == [None, None]
    assert [w.prefetch for w in drain(scheduler("a", "a", max_group=1))] == [None, None]


def test_a_full_group_is_followed_by_another_of_its_model_in_turn():
    works = drain(scheduler(*"aaaabaaa", max_group=3))
    assert [w.requests[0].id for w in works] == [0, 1, 2, 3, 5, 6, 4, 7]


def test_a_group_stays_open_while_its_last_request_runs():
    queue = scheduler("a", "b")
    work = queue.next_work(0.0)
    queue.add(request(2, "a"), 0.05)
    queue.record(work, Outcome(0.0, 0.1, 1), 0.1)
    assert [w.requests[0].id for w in drain(queue)] == [2, 1]


def test_an_empty_queue_is_idle():
    assert drain(scheduler()) == []
    assert scheduler().next_work(0.0) == Idle()


@pytest.mark.parametrize(("accumulative", "joins"), [(True, False), (False, True)])
def test_size_counts_all_that_ever_joined_or_the_waiting_ones(accumulative, joins):
    queue = GroupQueue(2, accumulative)
    for arrival in arriving(("a", 0, 1, 1), ("a", 0, 1, 1)):
        queue.add(arrival.request)
    assert not queue.joins("a")
    queue.groups[0].waiting.popleft()
    assert queue.joins("a") is joins


def test_loads_of_idle_instances_are_equal_again():
    policy = PrefillDispatcher(fleet(2), {"a": replace(COSTS["b"], switch=SwitchCost(0.3, 0.0))})
    members = [request(i, "a", tokens=7 + i) for i in range(8)]
    for member in members:
        policy.place(member, Stage.PREFILL, 0.0)
    for member in members:
        policy.finished(member, Stage.PREFILL, 0, 1.0)
    # A residue of rounding below or above zero would prefer one of them.
    assert place(policy, 8, "a") == 0
    policy.finished(request(8, "a"), Stage.PREFILL, 0, 2.0)
    assert place(policy, 9, "a") == 0
