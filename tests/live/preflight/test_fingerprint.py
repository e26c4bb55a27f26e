"""Nodes of other versions are refused; the lines that start a cluster; prompts and tiny models."""

import subprocess

import pytest

from aegaeon.core import ModelSpec
from aegaeon.errors import UserError
from aegaeon.live.preflight.fingerprint import check_fingerprints, fingerprint
from aegaeon.live.ray.launcher import start_lines
from tests.support.versions import HERE


def test_equal_nodes_pass_and_a_driver_may_be_on_the_nodes_only():
    check_fingerprints(HERE, {"a": HERE, "b": dict(HERE)})
    check_fingerprints(HERE, {"a": HERE | {"driver": "580"}, "b": HERE | {"driver": "580"}})


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ({"a": HERE, "b": HERE | {"torch": "2.12.0"}}, "b has torch 2.12.0, this machine 2.13.0"),
        ({"a": {k: v for k, v in HERE.items() if k != "ray"}}, "a has ray absent"),
        ({"a": HERE | {"driver": "1"}, "b": HERE | {"driver": "2"}}, "b has driver 2"),
        ({"a": HERE | {"aegaeon": "other"}}, "same commit"),
    ],
)
def test_other_versions_are_refused(nodes, says):
    with pytest.raises(UserError, match=says):
        check_fingerprints(HERE, nodes)


def test_the_fingerprint_covers_versions_and_our_code():
    found = fingerprint()
    assert set(found) >= set(HERE)
    assert len(found["aegaeon"]) == 12


def test_start_lines_are_shell_commands_for_a_head_and_workers():
    lines = start_lines(["h0", "h1", "h2"], slots=8, gpus=True, port=7000)
    assert [host for host, _ in lines] == ["h0", "h0", "h1", "h2"]
    assert "get-auth-token" in lines[0][1]
    assert "--head --port=7000" in lines[1][1]
    assert all("--address=h0:7000" in line for _, line in lines[2:])
    for _, line in lines[1:]:
        assert """--resources='{"gpu_slot": 8}'""" in line
        assert "--num-gpus=8" in line
        subprocess.run(["sh", "-n", "-c", line], check=True)
    assert len(start_lines(["h0"], 1, gpus=False, auth="disabled")) == 1
    with pytest.raises(UserError, match="at least 1"):
        start_lines([], 8, gpus=True)


def test_only_tiny_models_need_no_checkpoint():
    pytest.importorskip("torch")
    from aegaeon.live.tiny import tiny_model

    shape = {"parameters": 1e6, "layers": 2, "hidden": 128, "ffn": 128, "heads": 4}
    shape |= {"kv_heads": 2, "head_dim": 32, "max_len": 256, "dtype_bytes": 4}
    assert tiny_model(ModelSpec("a", "tiny-llama", **shape), 0).type == "llama"
    with pytest.raises(UserError, match=r"backend.checkpoints: .*qwen2.5-7b"):
        tiny_model(ModelSpec("a", "qwen2.5-7b", **shape), 0)
    with pytest.raises(UserError, match=r"heads \* head_dim"):
        tiny_model(ModelSpec("a", "tiny-llama", **(shape | {"hidden": 64})), 0)
