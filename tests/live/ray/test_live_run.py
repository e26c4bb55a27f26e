"""A live run from requests to tokens: right, complete, and nothing stays behind."""

import os
from dataclasses import asdict

import pytest

from aegaeon.core import Stage
from aegaeon.live.control.log import run_log
from aegaeon.live.options import LiveOptions
from aegaeon.policy.system import Aegaeon
from aegaeon.scoring.score import score_run
from aegaeon.scoring.tables import PARTS, events_table, pool_table, requests_table, summary
from tests.support.live_market import KV_BYTES, alone, deployment, leftovers, ours, requests, serve

pytest.importorskip("ray")
pytest.importorskip("vllm")
pytestmark = pytest.mark.live

MODELS, COUNT = 4, 24


@pytest.fixture(scope="module")
def plan():
    return deployment(MODELS, gpus=2)


@pytest.fixture(scope="module")
def run(plan, tmp_path_factory):

    before = leftovers()
    folder = tmp_path_factory.mktemp("run")
    system = Aegaeon(prefill=1, decode=1, qmax_s=0.05)
    options = LiveOptions(kv_bytes=KV_BYTES)
    done = serve(system, plan, requests(MODELS, COUNT, 0.05), options, folder, seed=5)
    return done, folder, before


def test_nothing_stays_behind(run):
    import ray

    _, _, before = run
    assert not ray.is_initialized()
    assert ours() == []
    assert leftovers() <= before


def test_tokens_are_those_of_each_model_alone(run, plan, tmp_path):
    from aegaeon.live.backend import prompts

    done, *_ = run
    live = prompts(requests(MODELS, COUNT, 0.05), seed=5)
    expected = alone(plan, live, tmp_path)
    assert {t.request.id: t.tokens for t in done.tracks} == expected
    assert len({tuple(tokens) for tokens in expected.values()}) > COUNT / 2


def test_every_request_is_told_in_full(run):
    done, *_ = run
    assert len(done.tracks) == COUNT
    for track in done.tracks:
        assert track.failure is None
        assert track.request.arrival <= track.sent < track.request.arrival + 0.2
        assert track.sent <= track.prefill_start <= track.times[0]
        assert track.times == sorted(track.times)
        assert track.times[-1] <= track.finish < 60
    stages = {spec.id: spec.stage for spec in done.fleet}
    kinds = {(stages[instance], ran.kind) for instance, ran in done.work}
    assert kinds == {(Stage.PREFILL, "prefill"), (Stage.DECODE, "decode")}
    decoded = [t for t in done.tracks if t.due > 1]
    assert all(t.breakdown().decode_s > 0 for t in decoded)
    assert {instance for instance, _ in done.switches} == {0, 1}
    # What the prefill instance wrote to the host pool came to the decoding one.
    handed = sum([move.in_bytes for instance, move in done.moves if instance == 1])
    assert handed > 0


def test_every_microsecond_of_a_request_is_accounted_for(run):
    done, *_ = run
    for track in done.tracks:
        spent = asdict(track.breakdown())
        assert min(spent.values()) >= 0
        total = track.finish - track.request.arrival
        assert sum(spent.values()) == pytest.approx(total, abs=1e-6)
        assert spent["prefill_s"] > 0
        # Its KV went to the host pool and back.
        assert spent["data_s"] > 0 or track.due == 1
    took = [ran.lead_s + ran.end - ran.start for _, ran in done.work]
    told = [ran.busy_s + ran.data_s for _, ran in done.work]
    assert all(0 <= ran.lead_s <= ran.data_s for _, ran in done.work)
    assert all(inside <= seconds for inside, seconds in zip(told, took, strict=True))
    assert sum(told) > 0.8 * sum(took)


def test_the_host_pool_is_watched(run):
    done, *_ = run
    times = [sample.time for sample in done.pool]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] < 60
    assert len({sample.block_bytes for sample in done.pool}) == 2
    assert all(0 <= sample.used <= sample.allocated for sample in done.pool)
    assert max([sample.used for sample in done.pool]) > 0


def test_a_live_run_is_scored_and_stored_like_a_simulated_one(run, plan):
    done, *_ = run
    log, types = run_log(done), {model.name: model.type for model in plan.models}
    scores = score_run(log, plan.slo)
    row = summary(log, scores, 1.0)
    assert (row["requests"], row["finished"], row["failed"]) == (COUNT, COUNT, 0)
    assert row["switches"] == len(done.switches) > 4
    assert 0 < row["ttft_p50_s"] < 30
    table = requests_table(log, scores, types)
    assert set(table["type"]) == {"tiny-qwen2", "tiny-llama"}
    assert (table[list(PARTS)] >= 0).all(axis=None)
    assert (table["sent_s"] >= table["arrival_s"]).all()
    assert (table["first_token_s"] <= table["finish_s"]).all()
    assert set(table["status"]) == {"finished"}
    events = events_table(log, types)
    assert (events.loc[events.kind == "switch", "bytes"] > 0).all()
    assert len(events) == len(done.switches) + len(done.moves)
    assert set(pool_table(log.pool)["shape"]) == {"S0", "S1"}


def test_each_instance_has_a_log(run):
    _, folder, _ = run
    names = sorted(os.listdir(folder / "logs"))
    assert names == ["instance_0_prefill.log", "instance_1_decode.log"]
