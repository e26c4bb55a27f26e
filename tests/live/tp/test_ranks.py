"""An instance of two ranks gives the tokens of each model alone, and ends with either of them."""

import os
import signal
from dataclasses import replace

import pytest

from aegaeon.live.tiny import GREEDY
from tests.support.tp_prompts import prompts

pytest.importorskip("vllm")
pytestmark = pytest.mark.live

PARAMS = {**GREEDY, "max_tokens": 12}


@pytest.fixture(scope="module")
def instance(start):
    return start(2)


@pytest.fixture(scope="module")
def given(models):
    return prompts(models, 5, seed=7)


@pytest.fixture(scope="module")
def alone(instance, given):
    return instance.alone(given, PARAMS)


def test_switching_and_preemption_change_no_token_on_two_ranks(instance, given, alone):
    tokens, switches, (moved_out, moved_in) = instance.switching(given, PARAMS, 0)
    assert tokens == alone
    assert len({tuple(made) for made in alone.values()}) == len(alone)
    assert switches > 10
    assert min(moved_out, moved_in) > 0
    assert instance.used() == 0


def test_an_engine_is_closed_and_made_again_on_all_ranks(instance, given, alone):
    instance.close_engine("llama")
    instance.make("llama")
    assert instance.switching(given, PARAMS, 1)[0] == alone
    assert instance.used() == 0


def test_packed_weights_are_switched_and_cached_on_all_ranks(start, models, folder):
    halves = [replace(model, name=f"{model.name}-half", dtype="bfloat16") for model in models]
    for model in halves:
        model.build(folder)
    instance = start(2, halves)
    given = prompts(halves, 5, seed=9)
    alone = instance.alone(given, PARAMS)
    tokens, switches, _ = instance.switching(given, PARAMS, 0)
    assert tokens == alone
    assert switches > 10
    for model in halves:
        instance.close_engine(model.name)
        instance.make(model.name)
    assert instance.switching(given, PARAMS, 1)[0] == alone


def test_a_rank_that_dies_takes_the_instance_with_it(instance, given):
    (peer,) = instance.ranks()
    os.kill(peer, signal.SIGKILL)
    from aegaeon.live.tp.group import RankError

    with pytest.raises(RankError, match=rf"rank 1 of 2 \(process {peer}\) died \(exit code -9\)"):
        instance.switching(given, PARAMS, 2)
    assert len(instance.lost_ranks()) == 1
