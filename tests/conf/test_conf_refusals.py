"""What cannot be run is refused before it runs, with a message that names the key."""

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from aegaeon.config import from_hydra
from aegaeon.errors import UserError
from aegaeon.experiment import plan, run


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
        run(plan(config, seed=0))
