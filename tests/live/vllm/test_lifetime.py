"""Engines filled from the node's host cache, and what a closed engine gives back."""

import gc
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from aegaeon.live.tiny import GREEDY, tiny_options
from tests.support.tiny_node import ZOO

pytest.importorskip("vllm")
pytestmark = pytest.mark.live

PROMPT = [(11 * j) % 499 + 1 for j in range(60)]


def tokens(engine, pool):
    pool.activate(engine.name)
    engine.add("x", PROMPT, GREEDY)
    got = []
    while engine.requests:
        got += [t for output in engine.step().outputs for t in output.token_ids]
    return got


@pytest.mark.parametrize("name", [model.name for model in ZOO])
def test_a_further_instance_takes_weights_from_the_cache(name, zoo, node, models, reference, reads):
    from aegaeon.live.vllm.model_engine import ModelEngine

    pool = node.pool()
    model = next(model for model in ZOO if model.name == name)
    engine = ModelEngine(name, models / name, pool, tiny_options(model))
    assert reads == []
    assert tokens(engine, pool) == reference.tokens(name, PROMPT)
    engine.close()


def test_a_checkpoint_that_changed_is_read_again(zoo, node, models, reads):
    from aegaeon.live.vllm.model_engine import ModelEngine

    pool = node.pool()
    path = models / "changing"
    made = []
    for seed in (71, 72):
        shutil.rmtree(path, ignore_errors=True)
        model = replace(ZOO[0], name="changing", seed=seed)
        engine = ModelEngine("changing", model.build(models), pool, tiny_options(model))
        made.append(tokens(engine, pool))
        engine.close()
    assert len(reads) == 2
    assert made[0] != made[1]


@pytest.mark.parametrize("why", ["quantized", "private"])
def test_what_a_copy_may_not_hold_is_read_from_the_checkpoint(
    why, zoo, node, models, reference, reads, monkeypatch
):
    from aegaeon.live.vllm import worker
    from aegaeon.live.vllm.model_engine import ModelEngine

    if why == "quantized":
        monkeypatch.setattr(worker, "may_stay_unloaded", lambda config: False)
    else:
        monkeypatch.setattr(worker, "keeps_private_tensors", lambda module: True)
    pool = node.pool()
    engine = ModelEngine("qwen-a", models / "qwen-a", pool, tiny_options(ZOO[0]))
    assert len(reads) == 1
    assert tokens(engine, pool) == reference.tokens("qwen-a", PROMPT)
    engine.close()


def test_tensors_beside_parameters_and_buffers_are_seen():
    import torch

    from aegaeon.live.vllm.loading import keeps_private_tensors

    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    module[0].view = module[0].weight[1:]
    module[0].scale = torch.tensor(1.0)
    assert not keeps_private_tensors(module)
    module[1].impl = SimpleNamespace(absorbed=torch.ones(3))
    assert keeps_private_tensors(module)


def test_a_closed_engine_gives_everything_back_and_may_return(zoo, node, models, reference):
    from aegaeon.live.vllm.model_engine import ModelEngine

    pool = node.pool(kv_bytes=1 << 19)
    engines = {m.name: ModelEngine(m.name, models / m.name, pool, tiny_options(m)) for m in ZOO[:2]}
    for name, engine in engines.items():
        for i in range(4):
            engine.add(f"{name}{i}", PROMPT, GREEDY)
        pool.activate(name)
        engine.step()
    for _ in range(2):
        held = sum([use.used for use in node.host_kv.stats().values()])
        assert held > 0
        assert pool.kv.resident("qwen-b").size > 1
        engines["qwen-a"].close()
        assert sum([use.used for use in node.host_kv.stats().values()]) < held
        engines["qwen-a"] = ModelEngine("qwen-a", models / "qwen-a", pool, tiny_options(ZOO[0]))
        assert tokens(engines["qwen-a"], pool) == reference.tokens("qwen-a", PROMPT)
        for i in range(4):
            engines["qwen-a"].add(f"again{i}", PROMPT, GREEDY)
        engines["qwen-a"].step()
        pool.activate("qwen-b")
        engines["qwen-b"].step()
    for engine in engines.values():
        engine.close()
    assert all(use.used == 0 for use in node.host_kv.stats().values())
    assert pool.active is None
    assert not pool.kv._overlays


def test_memory_comes_back_when_engines_go(zoo, node, models):
    from aegaeon.live.vllm.model_engine import ModelEngine

    def rss():
        gc.collect()
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    pool = node.pool()
    sizes = []
    for _ in range(8):
        engine = ModelEngine("llama", models / "llama", pool, tiny_options(ZOO[2]))
        tokens(engine, pool)
        engine.close()
        sizes.append(rss())
    # Buffers of one engine are tens of megabytes.
    assert sizes[-1] - sizes[2] < 10 << 20
