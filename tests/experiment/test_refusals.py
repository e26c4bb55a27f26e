"""What cannot be run is refused before it runs, with a message that names the key."""

import re

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from aegaeon.errors import UserError
from aegaeon.experiment.config import from_hydra
from aegaeon.experiment.execute import execute
from aegaeon.experiment.plan import plan
from aegaeon.live.options import LiveOptions
from aegaeon.live.preflight.checks import check_host, slab_bytes
from profiles.catalogue import load_model


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("workload.rat=1", "rat"),
        ("workload.rate_rps=fast", "fast"),
        ("hardware.gpus=1.5", "1.5"),
        ("models.count=many", "many"),
        ("system=vllm", "serverlessllm_plus"),
        ("experiment=fig99", "fig11a"),
        ("system.quantum=3", "quantum"),
        ("device@hardware.device=h1000", "h800"),
    ],
)
def test_composing_refuses(override, named, composed) -> None:
    with pytest.raises((HydraException, UserError)) as caught:
        from_hydra(composed(override))
    chain = [caught.value, caught.value.__cause__]
    assert named in " ".join(str(error) for error in chain)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("models.count", 0),
        ("hardware.gpus", 0),
        ("slo.scale", 0),
        ("slo.ttft_s", -1),
        ("workload.rate_rps", -0.1),
        ("workload.rate_rps", float("nan")),
        ("workload.duration_s", 0),
        ("workload.input_scale", 0),
        ("workload.skew", "steep"),
        ("seeds", [0, 0]),
        ("seeds", []),
        ("seeds", [-1]),
        ("models.shares", {"qwen": 0}),
        ("models.shares", {"mistral": 1}),
        ("hardware.name", "???"),
    ],
)
def test_validation_refuses(key, value, composed) -> None:
    cfg = composed.default.copy()
    OmegaConf.update(cfg, key, value, force_add=True)
    with pytest.raises(UserError, match=key):
        from_hydra(cfg)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device", "xpu"),
        ("auth", "none"),
        ("on_fault", "panic"),
        ("threads", 0),
        ("kv_bytes", -1),
        ("cache_bytes", 0),
        ("slab_bytes", -1),
        ("slabs", 0),
        ("block_size", 0),
        ("block_size", 48),
        ("restarts", -1),
        ("start_timeout_s", 0),
        ("stall_timeout_s", float("nan")),
    ],
)
def test_validation_refuses_of_a_live_backend(key, value, composed) -> None:
    cfg = composed("backend=live")
    OmegaConf.update(cfg, f"backend.{key}", value)
    with pytest.raises(UserError, match=rf"backend\.{key}: .*{value}"):
        from_hydra(cfg)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["backend.kv_bytes=8192"], r"backend.kv_bytes: one request of tiny-\w+ with max_len 256"),
        (["backend.kv_bytes=3000000000"], "backend.kv_bytes: .* a device has 1,99"),
        (["backend.cache_bytes=1000"], "backend.cache_bytes: the 4 models' weights take 4,239,872"),
        (["backend.slab_bytes=1000"], "backend.slab_bytes: a KV block of tiny-qwen2 .32 tokens."),
        (["+backend.checkpoints.tiny-qwen2=/absent"], "/absent holds no config.json"),
        (["+backend.checkpoints.tiny-qwen9=/absent"], "no model type is called 'tiny-qwen9'"),
        (["model@models.types.qwen=qwen-7b"], "no folder for model type qwen-7b"),
        (["hardware.device.memory_bytes=2e6"], "models: tiny-qwen2 needs 0.0 GB of weights"),
        (["hardware.gpus=3"], "system.prefill"),
    ],
)
def test_a_live_run_is_refused_before_it_starts(overrides, named, composed) -> None:
    config = from_hydra(composed("experiment=live_kick", *overrides))
    with pytest.raises(UserError, match=named):
        plan(config, seed=0)


def test_slabs_take_the_blocks_of_whatever_models_run() -> None:
    small, large = load_model("tiny"), load_model("llama2-7b")
    options = LiveOptions(cache_bytes=20 << 30)
    assert slab_bytes([small], options) == 1 << 20
    assert slab_bytes([small, large], options) == 16 * large.kv_bytes_per_token * 32
    check_host([small, large], options)
    chosen = LiveOptions(cache_bytes=20 << 30, slab_bytes=12 << 20)
    assert slab_bytes([small, large], chosen) == 12 << 20
    with pytest.raises(UserError, match=r"slab_bytes: .* of llama2-7b .*0 makes room for 16"):
        check_host([small, large], chosen)


def test_the_advice_on_checkpoints_can_be_pasted(composed) -> None:
    with pytest.raises(UserError) as caught:
        plan(from_hydra(composed("backend=live", "models.count=2")), seed=0)
    advice = re.findall("'(.*)'", str(caught.value))
    config = from_hydra(composed("backend=live", *advice))
    assert config.backend.checkpoints == {"qwen2.5-7b": "FOLDER"}


def test_checkpoints_of_other_runs_may_be_given_too(composed) -> None:
    given = "+backend.checkpoints={qwen-7b: /absent}"
    plan(from_hydra(composed("experiment=live_kick", given)), seed=0)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["hardware.gpus=15"], "system.prefill"),
        (["system.prefill=7"], "system.prefill"),
        (["system.pools=3"], "system.pools"),
        (["hardware=a10x4", "system.prefill=2", "system.decode=2"], "llama2-13b needs 26.0 GB"),
        (["models=market_72b", "system=serverlessllm", "hardware.gpus=15"], "hardware.gpus"),
        (["workload.duration_s=0.001", "models.count=1"], "workload"),
        (["workload=azure", "workload.path=absent.csv"], "absent.csv"),
    ],
)
def test_running_refuses(overrides, named, composed) -> None:
    config = from_hydra(composed(*overrides))
    with pytest.raises(UserError, match=named):
        execute(plan(config, seed=0))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("name=../evil", "name: '../evil' is no name"),
        ("name=''", "name: '' is no name"),
        (
            "backend.misprediction=-1",
            "backend.misprediction: must be at least 0 and at most 3, got -1.0",
        ),
    ],
)
def test_values_that_only_a_user_can_mean_wrongly_are_named(composed, override, says) -> None:
    with pytest.raises(UserError) as caught:
        from_hydra(composed(override))
    assert str(caught.value).startswith(says)


def test_a_misprediction_at_its_bound_ends(composed) -> None:
    small = ("models.count=4", "hardware.gpus=4", "system.prefill=1", "system.decode=3")
    config = from_hydra(composed(*small, "backend.misprediction=3", "workload.duration_s=10"))
    row = execute(plan(config, seed=0)).row
    assert row["finished"] == row["requests"] > 0
