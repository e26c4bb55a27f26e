"""A live run of instances of two devices each: right, complete, and nothing stays behind."""

from dataclasses import replace

import pytest

from aegaeon.live.options import LiveOptions
from aegaeon.policy.system import Aegaeon
from tests.support.live_market import (
    KV_BYTES,
    alone,
    deployment,
    leftovers,
    model,
    ours,
    requests,
    serve,
)

pytest.importorskip("ray")
pytest.importorskip("vllm")
pytestmark = [pytest.mark.live, pytest.mark.slow]

MODELS, COUNT = 2, 10


def test_tokens_are_those_of_each_model_alone_and_nothing_stays_behind(tmp_path):
    from aegaeon.live.backend import prompts

    before = leftovers()
    # In 32 bits a sum's order decides no token.
    one_rank = [replace(model(0), name=f"m{i}") for i in range(MODELS)]
    two_ranks = tuple([replace(spec, tp=2) for spec in one_rank])
    plan = replace(deployment(MODELS, gpus=4), models=two_ranks)
    system = Aegaeon(prefill=1, decode=1, qmax_s=0.1)
    options = LiveOptions(kv_bytes=KV_BYTES, calibrate=False)
    todo = requests(MODELS, COUNT, 0.2)
    done = serve(system, plan, todo, options, tmp_path / "run", seed=5)
    expected = alone(replace(plan, models=tuple(one_rank)), prompts(todo, seed=5), tmp_path)
    assert {track.request.id: track.tokens for track in done.tracks} == expected
    assert {spec.tp for spec in done.fleet} == {2}
    assert len(done.switches) > MODELS
    assert ours() == []
    assert leftovers() <= before
