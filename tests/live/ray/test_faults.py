"""Instances that are killed: every request finishes, with the tokens of an undisturbed run."""

import os
import random
import signal
import threading
import time

import pytest

from aegaeon.core import Arrival, Request
from aegaeon.live.options import LiveOptions
from aegaeon.policy.system import Aegaeon
from baselines.serverlessllm.ours import ServerlessLLM
from tests.support.live_market import (
    KV_BYTES,
    alone,
    deployment,
    instance_pids,
    leftovers,
    ours,
    requests,
    serve,
)

pytest.importorskip("ray")
pytest.importorskip("vllm")
pytestmark = pytest.mark.live

MODELS, COUNT = 2, 16


class Killer:
    """Kills instances by SIGKILL: `plan` has (requests sent, seconds after that, stage)."""

    def __init__(self, plan):
        self.plan = list(plan)
        self.killed = []

    def __call__(self, sent):
        for due in [due for due in self.plan if due[0] == sent]:
            threading.Timer(due[1], self.kill, [due[2]]).start()

    def kill(self, stage):
        until = time.monotonic() + 60
        while not (pids := instance_pids(stage)) and time.monotonic() < until:
            time.sleep(0.1)
        os.kill(pids[0], signal.SIGKILL)
        self.killed.append((stage, pids[0]))


def long_requests(count, gap_s=0.05, models=MODELS):
    """Requests that are still decoded when the next ones come."""
    return [
        Arrival(Request(i, f"m{i % models}", gap_s * i, 3 + 7 * i % 50), 80) for i in range(count)
    ]


def disturbed(system, plan, wanted, killer, folder, **options):
    """Run with kills; check that nothing is lost and nothing stays behind; return the run."""
    import ray

    from aegaeon.live.backend import prompts

    before = leftovers()
    live = LiveOptions(kv_bytes=KV_BYTES, calibrate=False, **options)
    done = serve(system, plan, wanted, live, folder / "run", seed=4, progress=killer)
    assert [track.failure for track in done.tracks] == [None] * len(wanted)
    expected = alone(plan, prompts(wanted, seed=4), folder)
    assert {t.request.id: t.tokens for t in done.tracks} == expected
    for track in done.tracks:
        assert len(track.times) == track.due
        assert track.times == sorted(track.times)
    assert len(done.faults) == len(killer.plan)
    assert sorted(fault.requests for fault in done.faults)[-1] > 0
    assert sum(t.restarts for t in done.tracks) == sum(fault.requests for fault in done.faults)
    print([(fault.instance, fault.requests, round(fault.seconds, 2)) for fault in done.faults])
    assert not ray.is_initialized()
    assert ours() == []
    assert leftovers() <= before
    return done


def test_a_prefill_and_a_decode_instance_are_killed(tmp_path):
    killer = Killer([(8, 0.05, "decode"), (12, 0.0, "prefill")])
    system, wanted = Aegaeon(prefill=1, decode=1, qmax_s=0.05), long_requests(COUNT)
    done = disturbed(system, deployment(MODELS, gpus=2), wanted, killer, tmp_path)
    assert {fault.instance for fault in done.faults} == {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_instances_are_killed_at_random(seed, tmp_path):
    rng = random.Random(seed)
    stages = ["prefill", "decode", "decode"]
    rng.shuffle(stages)
    sent = sorted(rng.sample(range(2, 40), 3))
    killer = Killer(
        [(at, rng.uniform(0, 0.3), kind) for at, kind in zip(sent, stages, strict=True)]
    )
    system, wanted = Aegaeon(prefill=1, decode=2, qmax_s=0.05), long_requests(40, 0.1, models=4)
    disturbed(system, deployment(4, gpus=3), wanted, killer, tmp_path, restarts=3)


@pytest.mark.slow
def test_an_instance_of_a_colocated_system_is_killed(tmp_path):
    killer = Killer([(4, 0.05, "full"), (20, 0.0, "full")])
    wanted = requests(MODELS, 24, 0.5)
    done = disturbed(ServerlessLLM(), deployment(MODELS, gpus=2), wanted, killer, tmp_path)
    assert any(track.queued for track in done.tracks) or len(done.faults) == 2
