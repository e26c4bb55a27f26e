"""Quantized models give vLLM's own tokens, with other models in between, wherever weights lie."""

import random
from dataclasses import replace

import pytest

from aegaeon.live.tiny import GREEDY, tiny_options
from tests.support.tiny_node import ZOO

pytest.importorskip("vllm")

import torch

from tests.support.tiny_quantized import FORMATS

pytestmark = pytest.mark.live

PROMPTS = [[(7 * j + 13 * i) % 499 + 1 for j in range(20 + 30 * i)] for i in range(3)]
PARAMS = {**GREEDY, "max_tokens": 24}
FOUR_BITS = ("awq", "gptq", "int4")
# Its kernel keeps a packed copy, unless the CPU has matrix tiles.
PRIVATE = () if torch.cpu._is_amx_tile_supported() else ("int8",)


@pytest.fixture(scope="module", params=sorted(FORMATS))
def quantized(request, zoo, tmp_path_factory, reference):
    """Return a format, a model in it, where it lies, and what vLLM's own engine gives for it."""
    if request.param in FOUR_BITS and not hasattr(torch.ops._C, "cpu_gemm_wna16"):
        pytest.skip("vLLM's kernel for 4-bit weights needs a CPU with AVX-512")
    form, folder = FORMATS[request.param], tmp_path_factory.mktemp("quantized")
    model = replace(ZOO[0], name="plain", dtype=form.dtype, seed=31)
    plain = model.build(folder)
    path = form.build(plain, folder / request.param)
    tokens = []
    for name, place in (("plain", plain), ("quantized", path)):
        reference.make(name, place, tiny_options(model))
        tokens.append([reference.tokens(name, prompt, PARAMS) for prompt in PROMPTS])
    assert tokens[0] != tokens[1]
    return request.param, model, path, tokens[1]


@pytest.fixture(scope="module")
def others(zoo, node, models):
    """Engines that take turns with the quantized one, three models in two weight slots."""
    from aegaeon.live.vllm.model_engine import ModelEngine

    pool = node.pool()
    made = [ModelEngine(m.name, models / m.name, pool, tiny_options(m)) for m in ZOO[:2]]
    yield made
    for engine in made:
        engine.close()


def tokens(engine, others, rng):
    """Run PROMPTS, one at a time, with turns of the other engines in between."""
    pool = engine._lease.pool
    got = [[] for _ in PROMPTS]
    for i, prompt in enumerate(PROMPTS):
        engine.add(str(i), prompt, PARAMS)
    while engine.requests:
        other = rng.choice(others)
        if not other.requests:
            other.add("o", [rng.randrange(1, 500) for _ in range(9)], GREEDY)
        pool.activate(other.name)
        other.step()
        pool.activate(engine.name)
        # Alone, as in the reference: in 16 bits the size of a batch may change a token.
        for output in engine.step([rng.choice(sorted(engine.requests))]).outputs:
            got[int(output.request_id)] += output.token_ids
    for other in others:
        other.abort("o")
    return got


def in_arena(tensor, pool):
    starts = [slot.bytes.data_ptr() for slot in pool._weights._slots]
    return any(0 <= tensor.data_ptr() - at < pool._weights._slots[0].bytes.nbytes for at in starts)


def test_switching_changes_no_token_of_a_quantized_model(quantized, others, reads):
    from aegaeon.live.vllm.model_engine import ModelEngine

    kind, model, path, expected = quantized
    pool, rng = others[0]._lease.pool, random.Random(1)
    for made in (1, 2):
        engine = ModelEngine(kind, path, pool, tiny_options(model))
        # Takes the place of what loading freed, so that a stale address shows.
        held = [torch.full((size,), torch.nan) for size in (128, 256) for _ in range(99)]
        assert tokens(engine, others, rng) == expected
        # The host cache has a copy by the second time, which may not be all there is.
        assert len(reads) == made
        layer = _model(engine).model.layers[0].self_attn.qkv_proj
        weight = getattr(layer, FORMATS[kind].weight)
        assert (weight is None) == (kind in PRIVATE)
        assert weight is None or in_arena(weight, pool)
        assert in_arena(layer.bias, pool)
        del layer, weight, held
        engine.close()


def _model(engine):
    return engine._llm.model_executor.driver_worker.worker.model_runner.model
