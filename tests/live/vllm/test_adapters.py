"""LoRA adapters under switching, between models and between adapters, give vLLM's own tokens."""

import json
import random
import shutil
import weakref
from dataclasses import replace

import pytest

from aegaeon.errors import UserError
from aegaeon.live.events import Adapter
from aegaeon.live.tiny import GREEDY, tiny_options
from tests.support.tiny_node import ZOO, TinyAdapter

pytest.importorskip("vllm")
pytestmark = pytest.mark.live

SLOTS = 2
LORA = {"enable_lora": True, "max_loras": SLOTS, "max_lora_rank": 8}
MODELS = {model.name: model for model in (ZOO[0], ZOO[3])}
NAMES = ("a", "b", "c")


def options(model, **extra):
    return replace(tiny_options(model), extra={**LORA, **extra})


@pytest.fixture(scope="module")
def adapters(zoo, models):
    """Three adapters per model, one more than there are slots; None stands for none."""
    made = {
        (name, kind): TinyAdapter(kind, rank=8 if kind == "c" else 4, seed=at).build(model, models)
        for name, model in MODELS.items()
        for at, kind in enumerate(NAMES)
    }
    return made | {(name, None): None for name in MODELS}


@pytest.fixture(scope="module")
def own(zoo, node, models):
    """Make engines that take adapters, and one that does not, on a device of their own."""
    from aegaeon.live.vllm.model_engine import ModelEngine

    def make(pool=None):
        pool = pool or node.pool()
        engines = {n: ModelEngine(n, models / n, pool, options(m)) for n, m in MODELS.items()}
        return engines | {
            "qwen-b": ModelEngine("qwen-b", models / "qwen-b", pool, tiny_options(ZOO[1]))
        }

    return make


@pytest.fixture(scope="module")
def engines(own):
    return own()


@pytest.fixture(scope="module")
def expected(engines, reference, models, adapters):
    """Prompts, and what vLLM's own engine makes of each with one adapter at a time.

    Our engines come first: with them vLLM's operations are corrected in this process.
    """
    rng = random.Random(5)
    prompts, tokens = {}, {}
    for name, model in MODELS.items():
        reference.make(f"{name} lora", models / name, options(model))
        for i, size in enumerate((20, 75)):
            prompt = [rng.randrange(1, 500) for _ in range(size)]
            for kind in (*NAMES, None):
                ident = f"{name}/{kind}/{i}"
                prompts[ident] = prompt
                adapter = adapters[name, kind]
                tokens[ident] = reference.tokens(f"{name} lora", prompt, adapter=adapter)
    return prompts, tokens


def add(engines, adapters, prompts, ident, given=(), **more):
    """Queue a request; `given` are tokens that another engine made of it."""
    name, kind, _ = ident.split("/")
    kind = None if kind == "None" else kind
    params = {**GREEDY, "max_tokens": more.pop("out", 40 - len(given))}
    prompt = [*prompts[ident], *given]
    engines[name].add(ident, prompt, params, adapter=adapters[name, kind], **more)


def finish(engines, rng):
    """Switch after every step or two of random sub-batches; return tokens, and batches cut."""
    pool = engines["qwen-a"]._lease.pool
    tokens, cut = {}, 0
    while waiting := [name for name, engine in engines.items() if engine.requests]:
        engine = engines[rng.choice(waiting)]
        pool.activate(engine.name)
        for _ in range(rng.randrange(1, 3)):
            ids = sorted(engine.requests)
            batch = rng.sample(ids, rng.randrange(1, len(ids) + 1)) if ids else []
            fits = engine.fits(batch)
            step = engine.step(batch)
            assert bool(step.ran) == bool(batch)
            assert step.ran == set(batch) or not fits
            cut += step.ran != set(batch)
            for output in step.outputs:
                tokens.setdefault(output.request_id, []).extend(output.token_ids)
    return tokens, cut


def test_adapters_change_tokens_and_switching_does_not(engines, adapters, expected, node):
    prompts, tokens = expected
    moves = []
    engines["qwen-a"]._lease.pool.store.on_move(moves.append)
    for ident in prompts:
        add(engines, adapters, prompts, ident)
    for i in range(6):
        engines["qwen-b"].add(f"qwen-b/{i}", [i + 1] * 60, GREEDY)
    got, cut = finish(engines, random.Random(2))
    assert {ident: got[ident] for ident in tokens} == tokens
    for name in MODELS:
        for i in range(2):
            assert len({tuple(tokens[f"{name}/{kind}/{i}"]) for kind in (*NAMES, None)}) == 4
    # Some batches named more adapters than there are slots, and KV came and went.
    assert cut > 0
    assert sum(move.in_bytes for move in moves) > 0
    assert all(use.used == 0 for use in node.host_kv.stats().values())


def test_more_adapters_than_slots_run_one_after_the_other(engines, adapters, expected):
    prompts, tokens = expected
    engine = engines["qwen-a"]
    engine._lease.pool.activate("qwen-a")
    idents = [f"qwen-a/{kind}/0" for kind in (*NAMES, None)]
    # All are running before they are asked for at once.
    got = {ident: [] for ident in idents}
    for ident in idents:
        add(engines, adapters, prompts, ident)
        got[ident] += [t for o in engine.step([ident]).outputs for t in o.token_ids]
    assert not engine.fits()
    assert engine.fits(idents[1:])
    while engine.requests:
        step = engine.step()
        assert len({i for i in step.ran if "None" not in i}) <= SLOTS
        for output in step.outputs:
            got[output.request_id] += output.token_ids
    assert got == {ident: tokens[ident] for ident in idents}


def test_kv_made_with_an_adapter_is_continued_with_it(engines, own, adapters, expected, node):
    prompts, tokens = expected
    decode, first = own(node.pool(kv_bytes=2 << 20)), {}
    for ident in prompts:
        add(engines, adapters, prompts, ident, out=1, hand_over=True)
    for name in MODELS:
        engines[name]._lease.pool.activate(name)
        while engines[name].requests:
            first |= {o.request_id: o for o in engines[name].step().outputs}
    for ident, output in first.items():
        assert output.kv.tokens == len(prompts[ident])
        add(decode, adapters, prompts, ident, output.token_ids, kv=output.kv)
    got, _ = finish(decode, random.Random(3))
    assert {ident: [*first[ident].token_ids, *rest] for ident, rest in got.items()} == tokens
    assert all(use.used == 0 for use in node.host_kv.stats().values())
    for engine in decode.values():
        engine.close()


def test_a_dropped_cache_is_computed_again_with_the_adapter(engines, adapters, expected):
    prompts, tokens = expected
    engine, ident = engines["mistral"], "mistral/b/1"
    engine._lease.pool.activate("mistral")
    add(engines, adapters, prompts, ident)
    got = [t for _ in range(10) for o in engine.step().outputs for t in o.token_ids]
    engine.give_up_kv([ident])
    again = engine.step()
    assert again.computed == len(prompts[ident]) + 10
    got += [t for output in again.outputs for t in output.token_ids]
    while engine.requests:
        got += [t for output in engine.step().outputs for t in output.token_ids]
    assert got == tokens[ident]


def spoil(adapter, folder, how):
    """Return a copy of an adapter that no engine of its model can use."""
    path = folder / how
    shutil.copytree(adapter.path, path)
    config, weights = path / "adapter_config.json", path / "adapter_model.safetensors"
    if how == "torn":
        weights.write_bytes(weights.read_bytes()[:500])
    elif how == "dora":
        config.write_text(json.dumps({**json.loads(config.read_text()), "use_dora": True}))
    elif how == "empty":
        config.unlink()
    return Adapter(how, str(path))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("gone", "adapter gone: .*nowhere holds no adapter_config.json"),
        ("empty", "adapter empty: .*empty holds no adapter_config.json"),
        ("wide", "adapter wide: vLLM cannot use .*rank 16 is greater than max_lora_rank 8"),
        ("torn", "adapter torn: vLLM cannot use .*torn"),
        ("dora", "adapter dora: vLLM cannot use .*DoRA"),
        ("other", "adapter other: vLLM cannot use .*qwen-large-other: .*size"),
        ("a", "adapter a: .*qwen-a-a has this name already, .*elsewhere needs another"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_a_users_error(
    engines, adapters, expected, tmp_path, how, message
):
    prompts, tokens = expected
    engine = engines["qwen-a"]
    wrong = {
        "gone": Adapter("gone", str(tmp_path / "nowhere")),
        "a": Adapter("a", str(tmp_path / "elsewhere")),
    }
    if how == "wide":
        adapter = TinyAdapter("wide", rank=16).build(ZOO[0], tmp_path)
    elif how == "other":
        wide = replace(ZOO[0], name="qwen-large", heads=8)
        adapter = TinyAdapter("other").build(wide, tmp_path)
    else:
        adapter = wrong.get(how) or spoil(adapters["qwen-a", "b"], tmp_path, how)
    engine._lease.pool.activate("qwen-a")
    add(engines, adapters, prompts, "qwen-a/a/0")
    got = [t for o in engine.step().outputs for t in o.token_ids]
    loaded = engine._llm.list_loras()
    with pytest.raises(UserError, match=message) as caught:
        engine.add("bad one", prompts["qwen-a/a/0"], GREEDY, adapter=adapter)
    assert "request bad one for qwen-a" in str(caught.value)
    assert engine._llm.list_loras() <= loaded
    assert set(engine.requests) == {"qwen-a/a/0"}
    while engine.requests:
        got += [t for output in engine.step().outputs for t in output.token_ids]
    assert got == tokens["qwen-a/a/0"]


def test_an_engine_without_adapters_says_so_and_keeps_the_kv(engines, adapters, expected, node):
    engine = engines["qwen-b"]
    with pytest.raises(UserError, match=r"adapter a: the model's engine takes none; .*enable_lora"):
        engine.add("x", [1, 2, 3], GREEDY, adapter=adapters["qwen-a", "a"])
    assert not engine.requests


def test_an_engine_that_takes_adapters_gives_its_memory_back(node, models, adapters):
    from aegaeon.live.vllm.model_engine import ModelEngine

    pool = node.pool()
    engine = ModelEngine("qwen-a", models / "qwen-a", pool, options(ZOO[0]))
    engine.add("x", [1, 2, 3], GREEDY, adapter=adapters["qwen-a", "a"])
    engine.step()
    runner = engine._llm.model_executor.driver_worker.worker.model_runner
    kept = [weakref.ref(runner.model), weakref.ref(runner.lora_manager)]
    del runner
    engine.close()
    assert [ref() for ref in kept] == [None, None]
