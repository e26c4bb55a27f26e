"""Two instances of two ranks each, and one of one: what they hand over, and what they refuse."""

import os
import time

import pytest

from aegaeon.errors import UserError
from aegaeon.live.tiny import GREEDY
from tests.support.tp_prompts import prompts

pytest.importorskip("vllm")
pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def given(models):
    return prompts(models, 6, seed=11, longest=150)


@pytest.fixture(scope="module")
def one_rank(start):
    return start(1)


@pytest.fixture(scope="module")
def expected(one_rank, given):
    """What each model alone gives on one rank; in 32 bits two ranks add up to the same tokens."""
    return one_rank.alone(given, GREEDY)


@pytest.fixture(scope="module")
def pair(start):
    return start(2), start(2)


def test_two_ranks_give_the_tokens_of_one(pair, given, expected):
    assert pair[0].alone(given, GREEDY) == expected


def test_a_hundred_switches_change_no_token(pair, given, expected):
    switches = moved = 0
    for seed in range(3):
        tokens, turns, (_, moved_in) = pair[0].switching(given, GREEDY, seed)
        assert tokens == expected
        switches, moved = switches + turns, moved + moved_in
    assert switches >= 100
    assert moved > 0
    assert pair[0].used() == 0


def test_an_instance_of_as_many_ranks_continues(pair, given, expected):
    first, second = pair
    handed = first.prefill(given, GREEDY)
    assert all(kv.ranks == 2 for _, kv in handed.values())
    going_on = {ident: ([*given[ident], *made], kv) for ident, (made, kv) in handed.items()}
    tokens, switches, _ = second.switching(going_on, {**GREEDY, "max_tokens": 39}, 5)
    assert {i: [*made, *tokens[i]] for i, (made, _) in handed.items()} == expected
    assert switches > 20
    # The pool is one; who freed blocks last gives them back when its ranks have read them.
    assert second.used() == first.used() == 0


def test_an_instance_of_other_ranks_refuses(pair, one_rank, given, models):
    ident = next(iter(given))
    handed = pair[0].prefill({ident: given[ident]}, GREEDY)
    made, kv = handed[ident]
    with pytest.raises(UserError, match=r"its KV is that of 2 .* this instance has 1; give all"):
        one_rank.switching({ident: ([*given[ident], *made], kv)}, GREEDY, 0)
    tokens, *_ = pair[1].switching({ident: ([*given[ident], *made], kv)}, GREEDY, 0)
    assert tokens[ident]
    assert pair[1].used() == one_rank.used() == 0


def test_a_rank_ends_when_its_instance_is_killed(pair):
    (peer,) = pair[1].ranks()
    pair[1].process.kill()
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{peer}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{peer}")
