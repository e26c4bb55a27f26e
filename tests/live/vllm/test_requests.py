"""Whatever vLLM does for a request, it does under switching, and in another engine's hands."""

import json
import random
from typing import Any

import pytest

from aegaeon.errors import UserError
from aegaeon.live.tiny import GREEDY

pytest.importorskip("vllm")
pytestmark = pytest.mark.live

PROMPT = [(7 * j) % 499 + 1 for j in range(70)]
LETTERS = '{"type": "object", "properties": {"a": {"enum": ["x", "yy"]}}, "required": ["a"]}'
REQUESTS: dict[str, dict[str, Any]] = {
    "sampled": {"temperature": 0.9, "top_p": 0.9, "seed": 11, "max_tokens": 30},
    "logprobs": {**GREEDY, "logprobs": 3},
    "penalised": {**GREEDY, "presence_penalty": 1.5, "frequency_penalty": 0.7},
    "several": {"temperature": 1.0, "seed": 5, "n": 3, "max_tokens": 20, "ignore_eos": True},
    "stopped": {**GREEDY, "stop": ["ab", "q"]},
    "structured": {
        "temperature": 0.8,
        "seed": 3,
        "max_tokens": 60,
        "structured_outputs": {"json": LETTERS, "disable_any_whitespace": True},
    },
}


def collect(engines, rng):
    """Run everything, switching after every step or two; return outputs by request and index."""
    pool = next(iter(engines.values()))._lease.pool
    outputs = {}
    while waiting := [name for name, engine in engines.items() if engine.requests]:
        name = rng.choice(waiting)
        pool.activate(name)
        for _ in range(rng.randrange(1, 3)):
            ids = sorted(engines[name].requests)
            batch = rng.sample(ids, rng.randrange(1, len(ids) + 1)) if ids else []
            for output in engines[name].step(batch).outputs:
                outputs.setdefault((output.request_id, output.index), []).append(output)
    return outputs


def test_every_kind_of_request_is_served_as_by_vllm(zoo, reference):
    # In 16 bits the size of a batch alone may change a sampled token, in vLLM too.
    zoo = {name: zoo[name] for name in ("qwen-a", "qwen-b")}
    for name, engine in zoo.items():
        for kind, params in REQUESTS.items():
            engine.add(f"{name} {kind}", PROMPT, params)
    outputs = collect(zoo, random.Random(1))
    for name in zoo:
        for kind, params in REQUESTS.items():
            expected = reference.run(name, PROMPT, params)
            for part in expected.outputs:
                got = outputs.pop((f"{name} {kind}", part.index))
                assert [t for o in got for t in o.token_ids] == list(part.token_ids), (name, kind)
                assert "".join([o.text for o in got]) == part.text
                assert got[-1].finish_reason == part.finish_reason
                if kind == "logprobs":
                    values = [at for o in got for at in o.logprobs]
                    wanted = [{t: p.logprob for t, p in at.items()} for at in part.logprobs]
                    assert [pytest.approx(at, abs=1e-3) for at in wanted] == values
                if kind == "structured" and part.finish_reason == "stop":
                    assert json.loads(part.text)["a"] in ("x", "yy")
    assert not outputs


def test_another_engine_continues_from_the_first_token(zoo, node, models, reference):
    decode_pool = node.pool()
    decode = node.engines(decode_pool, models)
    pool = zoo["llama"]._lease.pool
    rng = random.Random(4)
    for name, engine in zoo.items():
        prompts = [[rng.randrange(1, 500) for _ in range(n)] for n in (5, 31, 32, 33, 64, 150)]
        pool.activate(name)
        first = {}
        for i, prompt in enumerate(prompts):
            engine.add(str(i), prompt, {**GREEDY, "max_tokens": 1}, hand_over=True)
        while engine.requests:
            first |= {int(o.request_id): o for o in engine.step().outputs}
        decode_pool.activate(name)
        other = decode[name]
        got = {i: list(output.token_ids) for i, output in first.items()}
        for i, prompt in enumerate(prompts):
            kv = first[i].kv
            assert kv.tokens == len(prompt)
            other.add(str(i), prompt + got[i], {**GREEDY, "max_tokens": 39}, kv)
            assert other.step([str(i)]).computed == 1
            other.abort(str(i))
        assert all(use.used == 0 for use in node.host_kv.stats().values())
        expected = [reference.tokens(name, prompt) for prompt in prompts]
        assert [got[i][0] for i in range(len(prompts))] == [tokens[0] for tokens in expected]


def test_handed_over_tokens_equal_those_of_one_engine(zoo, node, models, reference):
    pools = [zoo["qwen-a"]._lease.pool, node.pool(kv_bytes=2 << 20)]
    engines = [zoo, node.engines(pools[1], models)]
    rng = random.Random(9)
    prompts = {
        f"{m} {i}": [rng.randrange(1, 500) for _ in range(9 + 40 * i)]
        for m in zoo
        for i in range(4)
    }
    first = {}
    for ident, prompt in prompts.items():
        zoo[ident.split()[0]].add(ident, prompt, {**GREEDY, "max_tokens": 1}, hand_over=True)
    for name, engine in zoo.items():
        pools[0].activate(name)
        while engine.requests:
            first |= {o.request_id: o for o in engine.step().outputs}
    for ident, output in first.items():
        engine = engines[1][ident.split()[0]]
        prompt = [*prompts[ident], *output.token_ids]
        engine.add(ident, prompt, {**GREEDY, "max_tokens": 39}, output.kv)
    outputs = collect(engines[1], rng)
    for ident, prompt in prompts.items():
        rest = [t for o in outputs[(ident, 0)] for t in o.token_ids]
        whole = [*first[ident].token_ids, *rest]
        assert whole == reference.tokens(ident.split()[0], prompt)
    assert all(use.used == 0 for use in node.host_kv.stats().values())


def test_handed_over_cache_that_nobody_wants_is_freed(zoo, pool, node):
    pool.activate("qwen-a")
    engine = zoo["qwen-a"]
    engine.add("x", PROMPT, {**GREEDY, "max_tokens": 1}, hand_over=True)
    (output,) = engine.step().outputs
    assert output.kv.nbytes > 0
    engine.add("y", [*PROMPT, *output.token_ids], GREEDY, output.kv)
    engine.abort("y")
    assert all(use.used == 0 for use in node.host_kv.stats().values())


@pytest.mark.parametrize(
    ("prompt", "params", "message"),
    [
        (PROMPT, {"temperature": -1.0}, "temperature"),
        (PROMPT, {"no_such_parameter": 1}, "no_such_parameter"),
        (PROMPT * 9, GREEDY, "maximum"),
        ([], GREEDY, "prompt"),
    ],
)
def test_what_vllm_refuses_is_a_users_error(zoo, prompt, params, message):
    with pytest.raises(UserError, match=message) as caught:
        zoo["llama"].add("bad one", prompt, params)
    assert "bad one" in str(caught.value)
    assert not zoo["llama"].requests
