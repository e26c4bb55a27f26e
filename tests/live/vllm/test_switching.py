"""Models that take turns give the tokens that each gives alone."""

import random

import pytest

from aegaeon.live.tiny import GREEDY

pytest.importorskip("vllm")
pytestmark = pytest.mark.live


def finish(engines, rng, turns_of=3):
    """Run random sub-batches of random models for a few steps each; return tokens, switches."""
    pool = next(iter(engines.values()))._lease.pool
    before = pool.switches
    tokens = {}
    while waiting := [name for name, engine in engines.items() if engine.requests]:
        name = rng.choice(waiting)
        engine = engines[name]
        pool.activate(name)
        for _ in range(rng.randrange(1, turns_of)):
            ids = sorted(engine.requests)
            if not ids:
                break
            batch = rng.sample(ids, rng.randrange(1, len(ids) + 1))
            step = engine.step(batch)
            assert step.ran <= set(batch)
            assert step.ran
            for output in step.outputs:
                tokens.setdefault(output.request_id, []).extend(output.token_ids)
    return tokens, pool.switches - before


@pytest.fixture(scope="module")
def expected(zoo, reference):
    rng = random.Random(7)
    prompts = {
        name: [[rng.randrange(1, 500) for _ in range(rng.randrange(5, 120))] for _ in range(6)]
        for name in zoo
    }
    tokens = {
        f"{name}/{i}": reference.tokens(name, prompt)
        for name, given in prompts.items()
        for i, prompt in enumerate(given)
    }
    return prompts, tokens


def test_three_hundred_switches_change_no_token(zoo, pool, node, expected):
    prompts, tokens = expected
    moves = []
    pool.store.on_move(moves.append)
    rng = random.Random(0)
    switches = 0
    while switches < 300:
        for name, given in prompts.items():
            for i, prompt in enumerate(given):
                zoo[name].add(f"{name}/{i}", prompt, GREEDY)
        got, more = finish(zoo, rng)
        switches += more
        assert got == tokens
    assert sum(move.in_bytes for move in moves) > 0
    assert len({use.block_bytes for use in node.host_kv.stats().values()}) >= 3
    assert all(use.used == 0 for use in node.host_kv.stats().values())
    assert all(pool.kv.resident(name).size <= 1 for name in zoo)


def test_tokens_depend_on_the_cache(zoo, pool, expected):
    prompts, tokens = expected
    engine = zoo["qwen-a"]
    pool.activate("qwen-a")
    engine.add("x", prompts["qwen-a"][0], GREEDY)
    got = [t for output in engine.step().outputs for t in output.token_ids]
    pool.kv.bytes.zero_()
    while engine.requests:
        got += [t for output in engine.step().outputs for t in output.token_ids]
    assert got[0] == tokens["qwen-a/0"][0]
    assert got != tokens["qwen-a/0"]


def test_nothing_moves_while_nothing_conflicts(zoo, pool, expected):
    prompts, tokens = expected
    moves = []
    pool.store.on_move(moves.append)
    for name in zoo:
        zoo[name].add(f"{name}/0", prompts[name][0], GREEDY)
    got, switches = finish(zoo, random.Random(3))
    assert switches > 20
    assert moves == []
    assert got == {ident: tokens[ident] for ident in got}


def test_a_batch_that_outgrows_the_arena_is_cut_short(zoo, pool, expected):
    prompts, tokens = expected
    pool.activate("mistral")
    engine = zoo["mistral"]
    for i in range(3):
        for k, prompt in enumerate(prompts["mistral"]):
            engine.add(f"{i}/{k}", prompt, GREEDY)
    got, left_out, computed = {}, 0, 0
    while engine.requests:
        batch = set(engine.requests)
        fits = engine.fits(batch)
        step = engine.step(batch)
        assert step.ran
        assert not fits or step.ran == batch
        left_out += step.ran != batch
        computed += step.computed
        for output in step.outputs:
            got.setdefault(output.request_id, []).extend(output.token_ids)
    assert left_out > 0
    for i in range(3):
        for k in range(6):
            assert got[f"{i}/{k}"] == tokens[f"mistral/{k}"]
    # Whoever was pushed out came back with its KV: no token was computed twice.
    assert computed == 3 * sum(len(prompt) + 39 for prompt in prompts["mistral"])


def test_a_dropped_cache_is_computed_again(zoo, pool, expected):
    prompts, tokens = expected
    pool.activate("qwen-a")
    engine = zoo["qwen-a"]
    engine.add("x", prompts["qwen-a"][1], GREEDY)
    got = []
    for _ in range(10):
        got += [t for output in engine.step().outputs for t in output.token_ids]
    engine.give_up_kv(["x"])
    again = engine.step()
    assert again.computed == len(prompts["qwen-a"][1]) + 10
    got += [t for output in again.outputs for t in output.token_ids]
    while engine.requests:
        got += [t for output in engine.step().outputs for t in output.token_ids]
    assert got == tokens["qwen-a/1"]


def test_without_room_on_the_host_requests_are_computed_again(zoo, models, expected):
    from tests.support.tiny_node import ZOO, TinyNode

    prompts, tokens = expected
    small = TinyNode(slab_bytes=1 << 16, slabs=1)
    pool = small.pool(kv_bytes=10 << 15)
    engine = small.engines(pool, models, ZOO[:1])["qwen-a"]
    for i, prompt in enumerate(prompts["qwen-a"]):
        engine.add(f"qwen-a/{i}", prompt, GREEDY)
    got, computed = {}, 0
    while engine.requests:
        step = engine.step(set(engine.requests))
        computed += step.computed
        for output in step.outputs:
            got.setdefault(output.request_id, []).extend(output.token_ids)
    assert got == {ident: tokens[ident] for ident in got}
    assert computed > sum(len(prompt) + 39 for prompt in prompts["qwen-a"])
    engine.add("x", [7] * 150, {**GREEDY, "max_tokens": 1}, hand_over=True)
    (output,) = engine.step().outputs
    assert output.finished
    assert output.kv is None
    small.close()


def test_an_aborted_request_leaves_nothing_behind(zoo, pool, node, expected):
    prompts, _ = expected
    for name in zoo:
        pool.activate(name)
        for i, prompt in enumerate(prompts[name]):
            zoo[name].add(f"{name}/{i}", prompt, GREEDY)
        zoo[name].step()
    for name in zoo:
        for ident in list(zoo[name].requests):
            zoo[name].abort(ident)
        zoo[name].abort("never seen")
        assert not zoo[name].requests
    assert all(use.used == 0 for use in node.host_kv.stats().values())


def test_only_the_active_model_may_step(zoo, pool):
    pool.activate("llama")
    with pytest.raises(RuntimeError, match="llama is active"):
        zoo["qwen-a"].step()
