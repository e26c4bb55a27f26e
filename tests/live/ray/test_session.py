"""What a Ray cluster cannot serve is refused with a message; so is one that cannot be had."""

import os
import signal
from pathlib import Path

import pytest

from aegaeon.errors import UserError
from aegaeon.live.options import LiveOptions
from aegaeon.live.preflight.fingerprint import fingerprint
from aegaeon.policy.system import Aegaeon
from baselines.serverlessllm.ours import ServerlessLLM
from tests.support.live_market import KV_BYTES, deployment, leftovers, ours, requests, serve

pytest.importorskip("ray")
pytest.importorskip("vllm")
pytestmark = pytest.mark.live

SLOTS = 2


@pytest.fixture(scope="module", autouse=True)
def session():
    from aegaeon.live.ray.cluster import connected

    with connected(LiveOptions(), SLOTS):
        yield
    assert ours() == []


def fleet(gpus: int, gpus_per_node: int = 8):
    from dataclasses import replace

    plan = replace(deployment(1, gpus), gpus_per_node=gpus_per_node)
    return Aegaeon(prefill=1, decode=gpus - 1).fleet(plan)


def test_a_node_of_other_versions_is_refused(monkeypatch):
    from aegaeon.live.ray import cluster

    def other():
        return fingerprint() | {"torch": "1.0"}

    other.__wrapped__ = fingerprint.__wrapped__
    monkeypatch.setattr(cluster, "fingerprint", other)
    with (
        pytest.raises(UserError, match=r"node \w{8} has torch 2\S+, this machine 1.0"),
        cluster.connected(LiveOptions(), SLOTS),
    ):
        pass


def test_a_ray_that_does_not_answer_is_a_message(monkeypatch):
    from aegaeon.live.ray import cluster

    def nobody(**_: object):
        raise ConnectionError("no such address\nmore")

    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.ray, "init", nobody)
    monkeypatch.setattr(cluster, "_BACK_OFF_S", 0.0)
    with (
        pytest.raises(UserError, match=r"no Ray cluster answers at 'h:1' \(no such address\)"),
        cluster.connected(LiveOptions(address="h:1"), SLOTS),
    ):
        pass
    with (
        pytest.raises(UserError, match=r"no Ray of our own starts here.*free ports.*doctor"),
        cluster.connected(LiveOptions(), SLOTS),
    ):
        pass


def test_too_few_devices_are_refused_at_once():
    from aegaeon.live.ray.cluster import reserved

    with (
        pytest.raises(UserError, match=r"needed 3 of resource gpu_slot, the cluster has 2"),
        reserved(fleet(3), False, 100.0),
    ):
        pass


def test_devices_in_use_are_waited_for_and_then_refused():
    from aegaeon.live.ray.cluster import reserved

    with reserved(fleet(2), False, 10.0) as places:
        assert sorted(places) == [0, 1]
        assert len({group.id for group, _ in places.values()}) == 1
        with (
            pytest.raises(UserError, match=r"needed 2 .* after 0.5 s 0 of 2 are available"),
            reserved(fleet(2), False, 0.5),
        ):
            pass
    with reserved(fleet(2), False, 10.0):
        pass


def test_a_missing_checkpoint_is_a_message(tmp_path):

    options = LiveOptions(kv_bytes=KV_BYTES, checkpoints={"tiny-qwen2": str(tmp_path / "none")})
    with pytest.raises(UserError, match=r"model m0: .*none holds no config.json"):
        serve(ServerlessLLM(), deployment(1, 1), requests(1, 2, 0.0), options, tmp_path)


def test_an_instance_that_dies_ends_the_run_if_asked_to(tmp_path):
    from aegaeon.live.control.tracks import LiveError

    def kill(sent: int) -> None:
        if sent == 3:
            (pid,) = [int(p.name) for p in Path("/proc").glob("[0-9]*") if _is_instance(p)]
            os.kill(pid, signal.SIGKILL)

    before = leftovers()
    with pytest.raises(LiveError, match=r"instance 0 \(full\) died .*\.log; \d+ requests"):
        serve(
            ServerlessLLM(),
            deployment(1, 1),
            requests(1, 8, 0.1),
            LiveOptions(kv_bytes=KV_BYTES, calibrate=False, on_fault="fail"),
            tmp_path,
            progress=kill,
        )
    assert leftovers() <= before


def _is_instance(process: Path) -> bool:
    """Tell whether this is the process of an instance of this session's Ray."""
    try:
        token = os.environ["RAY_AUTH_TOKEN"].encode()
        ours = token in (process / "environ").read_bytes()
        return ours and b"ray::InstanceActor" in (process / "cmdline").read_bytes()
    except OSError:
        return False
