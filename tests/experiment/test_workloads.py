"""Every workload choice runs, and takes the names that its documents list."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from aegaeon.errors import UserError
from aegaeon.experiment.config import Market, TraceWorkload, from_hydra
from aegaeon.experiment.execute import execute
from aegaeon.experiment.hydra_job import label
from aegaeon.experiment.plan import plan
from workloads import FORMATS, SKEWS

CONF = Path(__file__).parents[2] / "conf" / "workload"
SMALL = ("models.count=4", "hardware.gpus=4", "system.prefill=1", "system.decode=3")
TURNS = [{"from": "human", "value": "one two"}, {"from": "gpt", "value": "three"}]
CHAT = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "three"}]
MOONCAKE = '{"timestamp": 1500, "input_length": 5, "output_length": 6}\n'
TRACES = {
    "artifact": "Request Time,Model Name,Input Length,Output Length\n00:00:01.000,m_1,5,6\n",
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6,5,6\n",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens\n1,GPT-4,5,6\n",
    "bailian": MOONCAKE * 2,
    "lmsys": json.dumps({"model": "vicuna", "conversation": CHAT * 500}),
    "mooncake": MOONCAKE * 2,
    "servegen": "timestamp,input_tokens,output_tokens\n1.5,5,6\n",
    "sharegpt": json.dumps([{"conversations": TURNS * 500}]),
    "splitwise": "request_id,arrival_timestamp,prompt_size,token_size\n0,1.5,5,6\n",
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens\n1.5,5,6\n",
    "vllm": (json.dumps({"prompt": "one two", "output_tokens": 3}) + "\n") * 500,
}


@pytest.fixture
def trace(tmp_path):
    """Return a function of (choice) that writes a file of its format."""

    def write(choice: str) -> str:
        path = tmp_path / choice
        path.write_text(TRACES[choice])
        return f"workload.path={path}"

    return write


@pytest.mark.parametrize("choice", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_every_workload_runs(choice, trace, composed) -> None:
    path = [trace(choice)] if choice in TRACES else []
    config = from_hydra(composed(*SMALL, f"workload={choice}", *path, "workload.duration_s=60"))
    row = execute(plan(config, seed=0)).row
    assert row["finished"] == row["requests"] > 0


def test_sharegpt_arrives_at_the_rate_of_a_model(trace, composed) -> None:
    chosen = ("workload=sharegpt", trace("sharegpt"), "workload.duration_s=100")
    config = from_hydra(composed(*SMALL, *chosen, "workload.rate_rps=0.5"))
    planned = plan(config, seed=0)
    assert len(planned.arrivals) == pytest.approx(200, rel=0.2)
    assert execute(planned).row["rate_rps"] == 0.5
    assert "0.5 req/s" in label(config, 0)
    twice = from_hydra(composed(*SMALL, *chosen, "workload.rate_rps=0.5", "workload.rate_scale=2"))
    assert execute(plan(twice, seed=0)).row["rate_rps"] == 1.0
    again = from_hydra(composed(*SMALL, *chosen, "setup=16x05"))
    assert again.workload.rate_rps == 0.5


@pytest.mark.parametrize(
    ("choice", "rate", "named"),
    [
        ("sharegpt", 0, r"^workload\.rate_rps: .* has no arrival times"),
        ("sharegpt", -1, r"^workload\.rate_rps: must be at least 0"),
        ("azure", 1, r"^workload\.rate_rps: .* workload\.rate_scale"),
    ],
)
def test_a_rate_that_a_trace_cannot_have_is_refused(choice, rate, named, trace, composed) -> None:
    rates = f"workload.rate_rps={rate}"
    cfg = composed(*SMALL, f"workload={choice}", trace(choice), rates)
    with pytest.raises(UserError, match=named):
        plan(from_hydra(cfg), seed=0)


def test_a_whole_trace_has_its_true_rate_or_is_told_to_get_one(trace, composed) -> None:
    chosen = (*SMALL, "workload=mooncake", trace("mooncake"))
    path = Path(chosen[-1].partition("=")[2])
    path.write_text("".join(MOONCAKE.replace("1500", str(at)) for at in (0, 10_000, 20_000)))
    planned = plan(from_hydra(composed(*chosen)), seed=0)
    assert len(planned.arrivals) / planned.duration_s == pytest.approx(0.1)
    assert sum(planned.deployment.rates.values()) == pytest.approx(0.1)
    assert execute(planned).row["rate_rps"] == pytest.approx(0.1 / 4)
    for count in (1, 3):
        path.write_text(MOONCAKE.replace("1500", "0") * count)
        with pytest.raises(UserError, match=r"^workload\.duration_s: .* arrive at one moment"):
            plan(from_hydra(composed(*chosen)), seed=0)
        row = execute(plan(from_hydra(composed(*chosen, "workload.duration_s=5")), seed=0)).row
        assert row["rate_rps"] == pytest.approx(count / 5 / 4)


def test_a_trace_without_a_rate_is_called_by_its_name(trace, composed) -> None:
    config = from_hydra(composed(*SMALL, "workload=azure", trace("azure")))
    assert label(config, 0) == "aegaeon, 4 models, azure, seed 0"


def test_only_traces_have_new_keys() -> None:
    """Keys are part of the hash that names a run: a market's must stay as they are."""
    common = {"name", "duration_s", "input_scale", "output_scale"}
    assert {f.name for f in fields(Market)} == common | {"rate_rps", "skew", "burstiness"}
    old = common | {"path", "format", "rate_scale", "assign"}
    new = {"rate_rps", "start_s", "time_unit", "skip_empty"}
    assert {f.name for f in fields(TraceWorkload)} == old | new


def test_a_trace_without_a_file_is_told_the_key(composed) -> None:
    with pytest.raises(UserError, match=r"^workload\.path: has no value; add workload\.path=VALUE"):
        from_hydra(composed("workload=sharegpt"))


@pytest.mark.parametrize("skew", SKEWS)
def test_every_popularity_is_accepted(skew, trace, composed) -> None:
    planned = plan(from_hydra(composed(f"workload.skew={skew}")), seed=0)
    rates = planned.deployment.rates.values()
    assert (len(set(rates)) == 1) == (skew == "uniform")
    replayed = (*SMALL, "workload=mooncake", trace("mooncake"), f"workload.assign={skew}")
    replayed += ("workload.duration_s=60",)
    assert plan(from_hydra(composed(*replayed)), seed=0).arrivals


@pytest.mark.parametrize(
    ("override", "choices"),
    [
        ("workload.skew=steep", SKEWS),
        ("workload.assign=steep", SKEWS),
        ("workload.format=steep", FORMATS),
    ],
)
def test_a_refused_name_is_told_the_others(override, choices, trace, composed) -> None:
    key = override.partition("=")[0]
    base = () if "skew" in key else ("workload=azure", trace("azure"))
    with pytest.raises(UserError, match=f"^{key}: must be one of {', '.join(choices)}, got"):
        from_hydra(composed(*base, override))
