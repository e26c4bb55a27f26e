"""A cluster of two Ray nodes on this machine: prefill on one, decoding on the other."""

import os
import sys
from pathlib import Path

import pytest
from live_market import KV_BYTES, alone, deployment, leftovers, ours, requests

from aegaeon.engine.options import LiveOptions
from aegaeon.policy.aegaeon import Aegaeon

pytest.importorskip("ray")
pytest.importorskip("vllm")
pytestmark = [pytest.mark.live, pytest.mark.slow]

ROOT = Path(__file__).parents[3]


@pytest.fixture
def address(tmp_path):
    """Start a head and a second node, a device each, as `ray start` does on two machines."""
    from ray.cluster_utils import Cluster

    paths = os.pathsep.join([str(ROOT), *sys.path[1:]])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"], os.environ["RAY_AUTH_MODE"] = paths, "token"
    node = {"num_cpus": 1, "resources": {"gpu_slot": 1}, "object_store_memory": 80_000_000}
    from ray._raylet import Config

    Config.initialize("")
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    yield cluster.address
    cluster.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
    assert ours() == []


def test_requests_cross_from_node_to_node(address, tmp_path):
    from dataclasses import replace

    from aegaeon.engine.live import prompts, run_live

    before = leftovers()
    plan = replace(deployment(2, gpus=2), gpus_per_node=1)
    options = LiveOptions(address=address, kv_bytes=KV_BYTES)
    system = Aegaeon(prefill=1, decode=1, qmax_s=0.05)
    wanted = requests(2, 10, 0.05)
    done = run_live(system, plan, wanted, options, tmp_path / "run", seed=2)
    expected = alone(plan, prompts(wanted, seed=2), tmp_path)
    assert {t.request.id: t.tokens for t in done.tracks} == expected
    # Node 1 computes the prompts again, as the host pool is the other node's.
    assert sum([move.in_bytes for instance, move in done.moves if instance == 1]) == 0
    for track in done.tracks:
        assert track.times == sorted(track.times)
    assert leftovers() <= before
