"""Packed weights of CPU layers: ordinary tensors in the arena, right tokens, no copy mistaken."""

import random
from types import SimpleNamespace

import pytest

from aegaeon.live.tiny import GREEDY, TinyModel, tiny_options

torch = pytest.importorskip("torch")
gemm = pytest.importorskip("aegaeon.live.vllm.gemm")
pytestmark = pytest.mark.live

MODELS = {
    model.name: model
    for model in (
        TinyModel("half-a", "qwen2", dtype="bfloat16", seed=31),
        TinyModel("half-b", "qwen2", dtype="bfloat16", seed=32),
        TinyModel("half-tied", "qwen2", dtype="bfloat16", seed=33, tied=True),
        TinyModel("full", "qwen2", seed=34),
    )
}
PROMPTS = [[(31 * i + 7 * j) % 499 + 1 for j in range(20 + 9 * i)] for i in range(4)]

packing = pytest.mark.skipif(not gemm._has_kernel(), reason="no packed kernel on this CPU")


@pytest.fixture(scope="module")
def market(node, tmp_path_factory):
    """A pool with two weight slots and an engine of each model on it."""
    folder = tmp_path_factory.mktemp("gemm")
    pool = node.pool()
    return pool, node.engines(pool, folder, list(MODELS.values())), folder


def serve(engine, pool):
    """Run one request at a time."""
    pool.activate(engine.name)
    made = []
    for prompt in PROMPTS:
        engine.add("x", prompt, GREEDY)
        made.append([])
        while engine.requests:
            made[-1] += [t for output in engine.step().outputs for t in output.token_ids]
    return made


@pytest.fixture(scope="module")
def alone(market, reference_of):
    """What vLLM's own engine gives, one request at a time."""
    reference = reference_of(market[2], list(MODELS.values()))
    return {name: [reference.tokens(name, prompt) for prompt in PROMPTS] for name in MODELS}


def module_of(engine):
    executor = engine._llm.engine_core.engine_core.model_executor
    return executor.driver_worker.model_runner.model


@pytest.mark.parametrize("name", list(MODELS))
def test_tokens_are_those_of_vllm_alone(name, market, alone):
    pool, engines, _ = market
    assert serve(engines[name], pool) == alone[name]


@pytest.mark.parametrize("name", [name for name in MODELS if name != "full"])
def test_logits_are_those_of_vllms_own_kernels(name, market, reference_of):
    pool, engines, folder = market
    untouched = reference_of(folder, list(MODELS.values()), untouched=True)
    pool.activate(name)
    for prompt in PROMPTS:
        params = {**GREEDY, "max_tokens": 1, "logprobs": 5}
        (expected,) = untouched.run(name, prompt, params).outputs[0].logprobs
        engines[name].add("x", prompt, params)
        (output,) = engines[name].step().outputs
        assert output.logprobs is not None
        (got,) = output.logprobs
        assert got == pytest.approx({t: p.logprob for t, p in expected.items()}, abs=0.1)


def test_switches_with_prefetching_change_no_token(market, alone):
    pool, engines, _ = market
    rng = random.Random(1)
    for name, engine in engines.items():
        for i, prompt in enumerate(PROMPTS):
            engine.add(f"{name}/{i}", prompt, GREEDY)
    tokens, prefetched, turns = {}, 0, pool.switches
    upcoming = rng.choice(list(engines))
    while waiting := [name for name, engine in engines.items() if engine.requests]:
        name = upcoming if upcoming in waiting else rng.choice(waiting)
        switch = pool.activate(name)
        prefetched += switch is not None and switch.prefetched
        upcoming = rng.choice(waiting)
        pool.prefetch(upcoming)
        for output in engines[name].step().outputs:
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
    assert tokens == {f"{n}/{i}": t for n in MODELS for i, t in enumerate(alone[n])}
    assert pool.switches - turns > 40
    assert prefetched > 20


@packing
def test_packed_weights_lie_in_the_arena(market):
    pool, engines, _ = market
    arena = pool._weights._memory.untyped_storage().data_ptr()
    for name, model in MODELS.items():
        made = dict(module_of(engines[name]).named_modules())
        linear = {key: layer for key, layer in made.items() if hasattr(layer, "cpu_linear")}
        packed = {key for key in linear if linear[key].cpu_linear is gemm.packed_linear}
        plain = set() if model.dtype == "bfloat16" else set(linear)
        plain |= {"model.embed_tokens"} | ({"lm_head"} & set(linear) if model.tied else set())
        assert packed == set(linear) - plain
        assert all(layer.weight.untyped_storage().data_ptr() == arena for layer in linear.values())


@pytest.mark.parametrize("name", ["half-a", "half-tied"])
def test_an_engine_is_made_of_packed_weights_without_a_checkpoint(name, market, alone, node, reads):
    from aegaeon.live.vllm.model_engine import ModelEngine

    _, _, folder = market
    pool = node.pool()
    engine = ModelEngine(name, folder / name, pool, tiny_options(MODELS[name]))
    assert reads == []
    assert serve(engine, pool) == alone[name]
    engine.close()


@packing
def test_a_copy_for_another_kernel_is_not_taken(market, alone, node, reads, monkeypatch):
    from aegaeon.live.vllm.model_engine import ModelEngine

    _, _, folder = market
    pool = node.pool()
    monkeypatch.setattr(gemm, "_has_kernel", lambda: False)
    plain = ModelEngine("plain", folder / "half-a", pool, tiny_options(MODELS["half-a"]))
    assert len(reads) == 1
    monkeypatch.undo()
    packed = ModelEngine("packed", folder / "half-a", pool, tiny_options(MODELS["half-a"]))
    assert len(reads) == 1
    assert {len(tokens) for tokens in serve(plain, pool)} == {GREEDY["max_tokens"]}
    assert serve(packed, pool) == alone["half-a"]
    weights = [dict(module_of(s).named_parameters()) for s in (plain, packed)]
    assert [w["lm_head.weight"].dtype for w in weights] == [torch.bfloat16] * 2
    plain.close()
    packed.close()


@packing
@pytest.mark.parametrize(("rows", "inputs"), [(16, 32), (48, 96), (256, 128), (1008, 544)])
def test_a_packed_product_is_the_plain_one(rows, inputs):
    torch.manual_seed(0)
    layer = torch.nn.Linear(inputs, rows, dtype=torch.bfloat16)
    weight = torch.nn.Parameter(layer.weight.detach().clone())
    gemm._pack(layer)
    for count in (0, 1, 4, 5, 64, 200):
        x = torch.randn(count, inputs + 32, dtype=torch.bfloat16)[:, :inputs]
        for bias in (None, layer.bias):
            product = gemm.packed_linear(x, layer.weight, bias)
            expected = torch.nn.functional.linear(x, weight, bias)
            torch.testing.assert_close(product, expected)
    three = torch.randn(2, 3, inputs, dtype=torch.bfloat16)
    assert gemm.packed_linear(three, layer.weight).shape == (2, 3, rows)


@packing
def test_only_what_the_kernel_takes_is_packed():
    def layer(*shape, dtype=torch.bfloat16):
        return SimpleNamespace(weight=torch.nn.Parameter(torch.zeros(shape, dtype=dtype)))

    good, embedding, tied = layer(32, 64), layer(32, 64), layer(32, 64)
    tied.weight = embedding.weight
    others = [layer(8, 64), layer(40, 64), layer(32, 48), layer(32, 1, 4)]
    others.append(layer(32, 64, dtype=torch.float32))
    made = [(each, True) for each in (good, tied, *others)]
    assert list(gemm._packable([*made, (embedding, False)])) == [good]
    assert list(gemm._packable([(embedding, False)])) == []


@packing
@pytest.mark.parametrize(
    ("change", "form"),
    [
        ({}, "bf16-pairs"),
        ({"quant_config": object()}, ""),
        ({"lora_config": object()}, ""),
        ({"model_config": SimpleNamespace(dtype=torch.float32)}, ""),
    ],
)
def test_adapters_and_quantization_keep_their_own_kernels(change, form):
    whole = {"quant_config": None, "lora_config": None}
    whole["model_config"] = SimpleNamespace(dtype=torch.bfloat16)
    assert gemm.weight_form(SimpleNamespace(**(whole | change))) == form
