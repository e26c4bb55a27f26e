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
    """Make shells that take adapters, and one that does not, on a device of their own."""
    from aegaeon.live.vllm.model_engine import Shell

    def make(pool=None):
        pool = pool or node.pool()
        shells = {n: Shell(n, models / n, pool, options(m)) for n, m in MODELS.items()}
        return shells | {"qwen-b": Shell("qwen-b", models / "qwen-b", pool, tiny_options(ZOO[1]))}

    return make


@pytest.fixture(scope="module")
def shells(own):
    return own()


@pytest.fixture(scope="module")
def expected(reference, models, adapters):
    """Prompts, and what vLLM's own engine makes of each with one adapter at a time."""
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


def add(shells, adapters, prompts, ident, given=(), **more):
    """Queue a request; `given` are tokens that another shell made of it."""
    name, kind, _ = ident.split("/")
    kind = None if kind == "None" else kind
    params = {**GREEDY, "max_tokens": more.pop("out", 40 - len(given))}
    prompt = [*prompts[ident], *given]
    shells[name].add(ident, prompt, params, adapter=adapters[name, kind], **more)


def finish(shells, rng):
    """Switch after every step or two of random sub-batches; return tokens, and batches cut."""
    pool = shells["qwen-a"]._lent.pool
    tokens, cut = {}, 0
    while waiting := [name for name, shell in shells.items() if shell.requests]:
        shell = shells[rng.choice(waiting)]
        pool.activate(shell.name)
        for _ in range(rng.randrange(1, 3)):
            ids = sorted(shell.requests)
            batch = rng.sample(ids, rng.randrange(1, len(ids) + 1)) if ids else []
            fits = shell.fits(batch)
            step = shell.step(batch)
            assert bool(step.ran) == bool(batch)
            assert step.ran == set(batch) or not fits
            cut += step.ran != set(batch)
            for output in step.outputs:
                tokens.setdefault(output.request_id, []).extend(output.token_ids)
    return tokens, cut


def test_adapters_change_tokens_and_switching_does_not(shells, adapters, expected, node):
    prompts, tokens = expected
    moves = []
    shells["qwen-a"]._lent.pool.store.on_move(moves.append)
    for ident in prompts:
        add(shells, adapters, prompts, ident)
    for i in range(6):
        shells["qwen-b"].add(f"qwen-b/{i}", [i + 1] * 60, GREEDY)
    got, cut = finish(shells, random.Random(2))
    assert {ident: got[ident] for ident in tokens} == tokens
    for name in MODELS:
        for i in range(2):
            assert len({tuple(tokens[f"{name}/{kind}/{i}"]) for kind in (*NAMES, None)}) == 4
    # Some batches named more adapters than there are slots, and KV came and went.
    assert cut > 0
    assert sum(move.in_bytes for move in moves) > 0
    assert all(use.used == 0 for use in node.host_kv.stats().values())


def test_more_adapters_than_slots_run_one_after_the_other(shells, adapters, expected):
    prompts, tokens = expected
    shell = shells["qwen-a"]
    shell._lent.pool.activate("qwen-a")
    idents = [f"qwen-a/{kind}/0" for kind in (*NAMES, None)]
    # All are running before they are asked for at once.
    got = {ident: [] for ident in idents}
    for ident in idents:
        add(shells, adapters, prompts, ident)
        got[ident] += [t for o in shell.step([ident]).outputs for t in o.token_ids]
    assert not shell.fits()
    assert shell.fits(idents[1:])
    while shell.requests:
        step = shell.step()
        assert len({i for i in step.ran if "None" not in i}) <= SLOTS
        for output in step.outputs:
            got[output.request_id] += output.token_ids
    assert got == {ident: tokens[ident] for ident in idents}


def test_kv_made_with_an_adapter_is_continued_with_it(shells, own, adapters, expected, node):
    prompts, tokens = expected
    decode, first = own(node.pool(kv_bytes=2 << 20)), {}
    for ident in prompts:
        add(shells, adapters, prompts, ident, out=1, hand_over=True)
    for name in MODELS:
        shells[name]._lent.pool.activate(name)
        while shells[name].requests:
            first |= {o.request_id: o for o in shells[name].step().outputs}
    for ident, output in first.items():
        assert output.kv.tokens == len(prompts[ident])
        add(decode, adapters, prompts, ident, output.token_ids, kv=output.kv)
    got, _ = finish(decode, random.Random(3))
    assert {ident: [*first[ident].token_ids, *rest] for ident, rest in got.items()} == tokens
    assert all(use.used == 0 for use in node.host_kv.stats().values())
    for shell in decode.values():
        shell.close()


def test_a_dropped_cache_is_computed_again_with_the_adapter(shells, adapters, expected):
    prompts, tokens = expected
    shell, ident = shells["mistral"], "mistral/b/1"
    shell._lent.pool.activate("mistral")
    add(shells, adapters, prompts, ident)
    got = [t for _ in range(10) for o in shell.step().outputs for t in o.token_ids]
    shell.give_up_kv([ident])
    again = shell.step()
    assert again.computed == len(prompts[ident]) + 10
    got += [t for output in again.outputs for t in output.token_ids]
    while shell.requests:
        got += [t for output in shell.step().outputs for t in output.token_ids]
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
    shells, adapters, expected, tmp_path, how, message
):
    prompts, tokens = expected
    shell = shells["qwen-a"]
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
    shell._lent.pool.activate("qwen-a")
    add(shells, adapters, prompts, "qwen-a/a/0")
    got = [t for o in shell.step().outputs for t in o.token_ids]
    loaded = shell._engine.list_loras()
    with pytest.raises(UserError, match=message) as caught:
        shell.add("bad one", prompts["qwen-a/a/0"], GREEDY, adapter=adapter)
    assert "request bad one for qwen-a" in str(caught.value)
    assert shell._engine.list_loras() <= loaded
    assert set(shell.requests) == {"qwen-a/a/0"}
    while shell.requests:
        got += [t for output in shell.step().outputs for t in output.token_ids]
    assert got == tokens["qwen-a/a/0"]


def test_an_engine_without_adapters_says_so_and_keeps_the_kv(shells, adapters, expected, node):
    shell = shells["qwen-b"]
    with pytest.raises(UserError, match=r"adapter a: the model's engine takes none; .*enable_lora"):
        shell.add("x", [1, 2, 3], GREEDY, adapter=adapters["qwen-a", "a"])
    assert not shell.requests


def test_a_shell_that_takes_adapters_gives_its_memory_back(node, models, adapters):
    from aegaeon.live.vllm.model_engine import Shell

    pool = node.pool()
    shell = Shell("qwen-a", models / "qwen-a", pool, options(ZOO[0]))
    shell.add("x", [1, 2, 3], GREEDY, adapter=adapters["qwen-a", "a"])
    shell.step()
    runner = shell._engine.model_executor.driver_worker.worker.model_runner
    kept = [weakref.ref(runner.model), weakref.ref(runner.lora_manager)]
    del runner
    shell.close()
    assert [ref() for ref in kept] == [None, None]
