"""What a change of model costs is measured in every way; its run serves nothing."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Timer

import pytest

from aegaeon.core import ModelSpec
from aegaeon.errors import UserError
from aegaeon.experiment.compose import composed
from aegaeon.experiment.config import SwitchCostBackend
from aegaeon.experiment.execute import execute
from aegaeon.experiment.plan import plan
from aegaeon.live.measure.switch_cost import run as switch_cost
from aegaeon.live.measure.switch_cost.run import STAGES, switch_costs
from aegaeon.live.measure.switch_cost.samples import MIN_MODELS, SwitchSample
from aegaeon.live.options import SwitchCostOptions
from aegaeon.results.schema import ROWS
from aegaeon.runlog import StageCost
from aegaeon.scoring.tables import stages_table
from aegaeon.signals import stoppable

os.environ.setdefault("OMP_NUM_THREADS", "1")

SHAPE = {"parameters": 3.3e5, "hidden": 128, "ffn": 128, "heads": 4, "kv_heads": 2, "head_dim": 32}


def model(i: int) -> ModelSpec:
    kind = ("tiny-qwen2", "tiny-llama", "tiny-llama-b")[i % 3]
    return ModelSpec(f"m{i}", kind, layers=2, max_len=128, dtype_bytes=4, **SHAPE)


MODELS = [model(i) for i in range(MIN_MODELS)]


@pytest.mark.parametrize(
    ("models", "options"),
    [(2, {}), (3, {"rounds": 0}), (3, {"repeats": 0})],
)
def test_too_little_to_measure_is_refused(models, options, tmp_path):
    with pytest.raises(UserError, match="needs 3 models or more and rounds and repeats"):
        switch_costs(MODELS[:models], SwitchCostOptions(**options), tmp_path)


def test_whoever_is_told_to_stop_does_not_wait_for_an_engine(monkeypatch, tmp_path):
    def fresh(*_):
        Timer(1.0, os.kill, [os.getpid(), signal.SIGTERM]).start()
        return switch_cost._in_new_process(None, None, tmp_path / "log")

    monkeypatch.setattr(switch_cost, "fresh_engine", slow)
    monkeypatch.setattr(switch_cost, "_measure", fresh)
    began = time.monotonic()
    command = partial(switch_costs, MODELS, SwitchCostOptions(), tmp_path)
    assert stoppable(command) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 20
    assert multiprocessing.active_children() == []


def slow(*_):
    """Stand for the making of an engine."""
    time.sleep(60)


def test_lines_are_in_the_order_of_the_optimisations(monkeypatch, tmp_path):
    first = [SwitchSample(way, "m1", 0.5, 64) for way in STAGES]
    monkeypatch.setattr(switch_cost, "_measure", lambda *_: [first, first[:1]])
    table = stages_table(switch_costs(MODELS, SwitchCostOptions(), tmp_path))
    assert table["order"].tolist() == [*range(len(STAGES)), 0]
    assert table["stage"][:7].tolist()[-3:] == ["packed arena", "prefetched", "memcpy"]
    assert table["round"].tolist() == [0] * len(STAGES) + [1]
    assert set(table["model"]) == {"tiny-llama"}
    assert table["note"].str.len().min() > 0


def test_the_stored_row_is_of_a_run_that_serves_nothing(monkeypatch):
    from aegaeon.live.preflight import machine

    stages = [StageCost("memcpy", 6, "tiny-qwen2", 0.5, 64, "one copy")]
    monkeypatch.setattr(machine, "check_packages", lambda _: None)
    monkeypatch.setattr(switch_cost, "switch_costs", lambda *_: stages)
    config = composed(["~local", "experiment=live_fig07"])
    assert isinstance(config.backend, SwitchCostBackend)
    result = execute(plan(config, 0))
    assert result.tables["stages"].iloc[0].to_dict()["bytes"] == 64
    stamp = {"config_hash": "0" * 16, "point": "p", "git_sha": "x", "machine": "m", "wall_s": 1.0}
    row = ROWS.row(dict.fromkeys(ROWS.names) | dict(result.row) | stamp, Path("row"))
    assert (row["requests"], row["tokens"], row["source"]) == (0, 0, "live")
    assert row["slo_attainment"] is None


@pytest.mark.live
def test_engines_that_stay_are_switched_in_every_way(tmp_path):
    pytest.importorskip("vllm")
    from aegaeon.live.measure.switch_cost.ways import SwitchBench, candidates

    options = SwitchCostOptions(kv_bytes=1 << 20)
    bench = SwitchBench(candidates(MODELS, options, tmp_path), options)
    try:
        samples = [sample for _ in range(2) for sample in bench.measure()]
    finally:
        bench.close()
    kept = set(STAGES) - {"process", "engine"}
    assert sorted((s.way, s.model) for s in samples) == sorted(
        (way, m.name) for way in kept for m in MODELS for _ in range(2)
    )
    assert min([s.seconds for s in samples]) > 0
    assert all(s.nbytes >= 1.2e6 for s in samples)


@pytest.mark.live
@pytest.mark.parametrize("dtype_bytes", [4, 2])
def test_weights_stay_what_they_are(dtype_bytes, tmp_path):
    """Every way brings the very bytes that the packed copy holds."""
    pytest.importorskip("vllm")
    import torch

    from aegaeon.live.measure.switch_cost.ways import SwitchBench, candidates

    options = SwitchCostOptions(kv_bytes=1 << 20)
    models = [replace(m, dtype_bytes=dtype_bytes) for m in MODELS]
    bench = SwitchBench(candidates(models, options, tmp_path), options)
    try:
        for name in ("m0", "m1"):
            bench._pool.activate(name)
            named = dict(bench._pool.module(name).named_parameters())
            before = {key: tensor.detach().clone() for key, tensor in named.items()}
            for way in ("tensors", "files"):
                for tensor in named.values():
                    tensor.data.zero_()
                bench._ways(name)[way]()
                assert all(torch.equal(named[key], before[key]) for key in before), way
    finally:
        bench.close()


@pytest.mark.live
@pytest.mark.slow
def test_a_new_process_is_measured_as_well(tmp_path):
    pytest.importorskip("vllm")
    options = SwitchCostOptions(kv_bytes=1 << 20, rounds=1, repeats=1)
    table = switch_costs(MODELS, options, tmp_path)
    assert table.groupby("stage").size().to_dict() == {
        name: MIN_MODELS for name, _ in STAGES.values()
    }
    medians = table.groupby("stage")["seconds"].median()
    assert medians["new process"] > medians["re-initialisation"] > medians["checkpoint files"]
    assert (tmp_path / "logs" / "switch_cost.log").exists()
