"""Times computed by hand: 1 s per load, 0.1 s per prefill, 0.02 s per step, 0.1 ms per KV token."""

from dataclasses import replace

import pytest

from aegaeon.core import GB
from aegaeon.policy.system import Aegaeon
from baselines.serverlessllm.ours import ServerlessLLM
from tests.support.small_market import arriving, cost, deployment, simulate, token_times

A_B = {"a": cost(), "b": cost()}
PAIR = Aegaeon(prefill=1, decode=1)


def switches(result, instance):
    told = result.switches
    rows = zip(told.instance, told.time, told.seconds, told.prefetched, strict=True)
    return [row[1:] for row in rows if row[0] == instance]


def test_a_request_alone_waits_for_two_loads_and_its_kv():
    result = simulate(PAIR, deployment(A_B), arriving(("a", 0.5, 100, 3)))
    # Loaded by 1.5 and prefilled by 1.6; the decoding instance loads until 2.6, then takes 101
    # tokens of KV in, which left the prefill instance in the meantime.
    assert token_times(result)[0] == pytest.approx([1.6, 2.6301, 2.6501])
    (told,) = result.requests
    assert told.prefill_start == pytest.approx(1.5)
    assert told.data_s == pytest.approx(0.0101)
    assert told.decode_s == pytest.approx(0.04)
    assert list(result.moves.nbytes) == [101e6, 101e6]


def test_a_load_takes_the_bytes_over_the_links_real_bandwidth():
    plan = deployment(A_B)
    seconds = plan.costs["a"].weight_bytes / (plan.device.pcie_bandwidth * 0.625)
    result = simulate(PAIR, plan, arriving(("a", 0.0, 100, 3)))
    assert list(result.switches.seconds) == pytest.approx([seconds, seconds])


def test_a_slower_loader_stretches_the_load():
    plan = deployment(A_B, weight_slots=1)
    arrivals = arriving(("a", 0.0, 100, 2))
    full = simulate(ServerlessLLM(), plan, arrivals)
    half = simulate(ServerlessLLM(load_gbps=5.0), plan, arrivals)
    assert token_times(full)[0] == pytest.approx([1.1, 1.12])
    assert token_times(half)[0] == pytest.approx([2.1, 2.12])


def test_a_prefetch_that_had_time_leaves_only_the_activation():
    arrivals = arriving(("a", 0.0, 100, 900), ("b", 0.0, 100, 900))
    result = simulate(PAIR, deployment(A_B), arrivals)
    first, *later = switches(result, 1)
    assert first[1:] == (pytest.approx(1.0), 0)
    # Turns of 4 s hide the second that a prefetch takes.
    assert len(later) >= 6
    assert all(row[1:] == (pytest.approx(0.01), 1) for row in later)


def test_a_prefetch_begins_when_the_other_model_arrives_amid_a_turn():
    arrivals = arriving(("a", 0.0, 100, 900), ("b", 3.0, 100, 100))
    result = simulate(PAIR, deployment(A_B), arrivals)
    # The turn of "a" runs from 2.1101 to 6.1101, and "b" reaches the instance at 4.1.
    _, second = switches(result, 1)[:2]
    assert second[1:] == (pytest.approx(0.01), 1)


def test_a_prefetch_that_had_too_little_time_is_waited_for():
    arrivals = arriving(("a", 0.0, 100, 3), ("a", 0.0, 100, 3), ("b", 0.0, 100, 3))
    result = simulate(PAIR, deployment(A_B), arrivals)
    # With the second prefill, at 1.1, starts the prefetch of "b", complete at 2.1.
    assert switches(result, 0)[1] == (pytest.approx(1.2), pytest.approx(0.91), 1)


def test_without_prefetch_every_switch_is_a_whole_load():
    arrivals = arriving(("a", 0.0, 100, 900), ("b", 0.0, 100, 900))
    result = simulate(replace(PAIR, prefetch=False), deployment(A_B), arrivals)
    assert len(switches(result, 1)) >= 7
    assert all(row[1:] == (pytest.approx(1.0), 0) for row in switches(result, 1))


def second_turn_start(tokens):
    """When "b" first decodes, if a request of "a" with `tokens` arrives during its prefetch."""
    costs = {"a": cost(), "b": cost(switch_s=3.0)}
    arrivals = arriving(("a", 0.0, 100, 180), ("b", 0.0, 100, 3), ("a", 4.05, tokens, 2))
    result = simulate(PAIR, deployment(costs), arrivals)
    return token_times(result)[1][1] - 0.02


def test_kv_that_moves_in_delays_the_prefetch_under_way_by_its_own_time():
    # "b" reaches the decoding instance at 4.2, its turn comes before 6, and its prefetch begins at
    # the next step's end, 105 steps after 2.1101. Two tokens of KV overtake it and its own 101
    # follow, during the activation.
    start = second_turn_start(1)
    assert start == pytest.approx(2.1101 + 105 * 0.02 + 3.0 + 0.0002 + 0.0101)
    assert second_turn_start(3000) == pytest.approx(start + 2999e-4)


def test_kv_waits_for_weights_that_the_device_waits_for():
    result = simulate(PAIR, deployment(A_B), arriving(("a", 0.0, 5000, 3)))
    # 5001 tokens take 0.5001 s out, ready at 1.6001, and as long in after the load ends at 2.1.
    assert token_times(result)[0][1] == pytest.approx(2.1 + 0.5001 + 0.02)


def test_decoding_begins_with_the_first_request_whose_kv_is_there():
    arrivals = arriving(("a", 0.0, 100, 50), ("a", 0.0, 9000, 50))
    result = simulate(PAIR, deployment(A_B, kv_bytes=20 * GB), arrivals)
    small, large = token_times(result)[0], token_times(result)[1]
    # Both are prefilled before the decoding instance has loaded, at 2.1.
    assert small[1] == pytest.approx(2.1 + 0.0101 + 0.02)
    # The first step of the small one is over before the large one is asked for.
    loaded = 2.1 + 0.0101 + 0.02 + 0.9001
    assert loaded < large[1] - 0.02 <= loaded + 0.02
    # From then on they step together.
    assert small[-1] < large[-1]
    assert set(large[1:].round(6)) & set(small.round(6))


def test_lazy_eviction_moves_kv_only_when_another_model_needs_its_bytes():
    arrivals = arriving(("a", 0.0, 100, 900), ("b", 0.0, 100, 900))
    lazy = simulate(PAIR, deployment(A_B), arrivals)
    eager = simulate(replace(PAIR, lazy_eviction=False), deployment(A_B), arrivals)
    crowded = simulate(PAIR, deployment(A_B, kv_bytes=1.1 * GB), arrivals)
    moves = [len(r.moves.seconds) for r in (lazy, eager, crowded)]
    assert moves[0] == 4
    assert moves[1] > 10
    assert moves[2] > 4
    assert all(t.finish > 0 for r in (lazy, eager, crowded) for t in r.requests)


def test_kv_comes_in_only_after_what_it_displaces_has_left():
    arrivals = arriving(("a", 0.0, 500, 900), ("b", 0.0, 500, 900))
    result = simulate(PAIR, deployment(A_B, kv_bytes=1.4015 * GB), arrivals)
    first, second = token_times(result)[0], token_times(result)[1]
    before = first[first < second[1]]
    leaves = (500 + len(before)) * 1e-4
    # The prefetched weights take only 0.01 s meanwhile.
    assert second[1] == pytest.approx(before[-1] + leaves + 0.0501 + 0.02)


def test_a_prompt_waits_until_an_earlier_ones_kv_has_left():
    arrivals = arriving(("a", 0.0, 900, 2), ("a", 0.0, 900, 2))
    result = simulate(PAIR, deployment(A_B, kv_bytes=1.2 * GB), arrivals)
    times = token_times(result)
    assert times[0][0] == pytest.approx(1.1)
    assert times[1][0] == pytest.approx(1.1 + 0.0901 + 0.1)


def test_an_idle_instance_that_holds_the_model_does_not_load_it_again():
    arrivals = arriving(("a", 0.0, 100, 2), ("a", 10.0, 100, 2))
    result = simulate(ServerlessLLM(), deployment(A_B, weight_slots=1), arrivals)
    assert token_times(result)[1] == pytest.approx([10.1, 10.12])
    assert len(result.switches.seconds) == 1
