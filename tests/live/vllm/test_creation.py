"""Making engines: cheap after the first of an architecture, and clear messages when it fails."""

import shutil
import time
from dataclasses import replace

import pytest

from aegaeon.errors import UserError
from aegaeon.live.tiny import GREEDY, tiny_options
from tests.support.tiny_node import ZOO

pytest.importorskip("vllm")
pytestmark = pytest.mark.live


def test_a_further_model_of_an_architecture_is_ready_within_a_second(zoo, node, models):
    from aegaeon.live.vllm.model_engine import ModelEngine

    pool = node.pool()
    seconds = []
    for seed in range(4):
        model = replace(ZOO[0], name=f"more-{seed}", seed=50 + seed)
        path = model.build(models)
        began = time.perf_counter()
        engine = ModelEngine(model.name, path, pool, tiny_options(model))
        seconds.append(time.perf_counter() - began)
        engine.add("x", [1, 2, 3], GREEDY)
        assert engine.step().ran == {"x"}
    # The least of a few: other work on the machine is not ours to measure.
    assert min(seconds) < 1.0


def broken(models, name):
    copy = models / name
    shutil.copytree(models / "qwen-a", copy)
    return copy


def test_a_missing_checkpoint_is_named(zoo, pool, models):
    from aegaeon.live.vllm.model_engine import ModelEngine

    with pytest.raises(UserError, match=r"model gone: .*nowhere holds no config\.json"):
        ModelEngine("gone", models / "nowhere", pool)


def test_a_damaged_checkpoint_is_named_and_the_others_go_on(zoo, pool, models, reference):
    from aegaeon.live.vllm.model_engine import ModelEngine

    path = broken(models, "torn")
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model torn: vLLM cannot run .*torn"):
        ModelEngine("torn", path, pool, tiny_options(ZOO[0]))
    pool.activate("qwen-a")
    zoo["qwen-a"].add("x", [5, 6, 7], GREEDY)
    got = []
    while zoo["qwen-a"].requests:
        got += [t for output in zoo["qwen-a"].step().outputs for t in output.token_ids]
    assert got == reference.tokens("qwen-a", [5, 6, 7])


def test_a_model_larger_than_the_arena_is_refused(node, zoo, models):
    from aegaeon.live.vllm.model_engine import ModelEngine

    with pytest.raises(UserError, match=r"model qwen-a: its weights take .* make the arena larger"):
        ModelEngine("qwen-a", models / "qwen-a", node.pool(slot_bytes=4096), tiny_options(ZOO[0]))


def test_a_kv_arena_too_small_for_one_request_is_refused(node, zoo, models):
    from aegaeon.live.vllm.model_engine import ModelEngine

    with pytest.raises(UserError, match=r"model qwen-a: .*max seq len"):
        ModelEngine("qwen-a", models / "qwen-a", node.pool(kv_bytes=1 << 16), tiny_options(ZOO[0]))
