"""A cluster of two Ray nodes on this machine: prefill on one, decoding on the other.

A request's KV goes from node to node.
"""

import os
import sys
from pathlib import Path

import pytest

from aegaeon.live.options import LiveOptions
from aegaeon.policy.system import Aegaeon
from tests.support.live_market import KV_BYTES, alone, deployment, leftovers, ours, requests, serve

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
    os.environ["PYTHONPATH"] = paths
    node = {"num_cpus": 1, "resources": {"gpu_slot": 1}, "object_store_memory": 80_000_000}
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

    from aegaeon.live.backend import prompts

    before = leftovers()
    plan = replace(deployment(2, gpus=2), gpus_per_node=1)
    options = LiveOptions(address=address, kv_bytes=KV_BYTES)
    system = Aegaeon(prefill=1, decode=1, qmax_s=0.05)
    wanted = requests(2, 10, 0.05)
    done = serve(system, plan, wanted, options, tmp_path / "run", seed=2)
    expected = alone(plan, prompts(wanted, seed=2), tmp_path)
    assert {t.request.id: t.tokens for t in done.tracks} == expected
    # Every prompt's KV went to the other node and nothing was computed twice there.
    handed = [track for track in done.tracks if track.due > 1]
    assert sorted(t.request for t in done.transfers) == [t.request.id for t in handed]
    assert {t.instance for t in done.transfers} == {1}
    assert all(carry.kv is not None and carry.nbytes > 0 for _, carry in done.carries)
    sizes = [carry.nbytes for _, carry in done.carries]
    assert sum([move.in_bytes for instance, move in done.moves if instance == 1]) >= sum(sizes)
    assert all(track.breakdown().data_s > 0 for track in handed)
    took = sorted([carry.seconds for _, carry in done.carries])
    print(f"{sum(sizes):,} bytes, median {took[len(took) // 2] * 1e3:.1f} ms a request")
    for track in done.tracks:
        assert track.times == sorted(track.times)
    assert leftovers() <= before
