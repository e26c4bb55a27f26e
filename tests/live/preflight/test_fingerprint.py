"""Nodes of other versions are refused; the lines that start a cluster; prompts and tiny models."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aegaeon.core import ModelSpec
from aegaeon.errors import UserError
from aegaeon.live.preflight.fingerprint import (
    SOURCES,
    check_fingerprints,
    code_digest,
    fingerprint,
)
from aegaeon.live.ray.launcher import start_lines
from aegaeon.paths import ROOT
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


def modules() -> dict[str, Path]:
    """Return the files of all our modules by their dotted names."""
    names = (*SOURCES, "figures", "profiles", "workloads")
    paths = [path.relative_to(ROOT) for name in names for path in (ROOT / name).rglob("*.py")]
    return {".".join(p.with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, within functions too, and their packages."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        yield from (".".join(p[:end]) for p in parts for end in range(1, len(p) + 1))


def test_all_that_instances_can_import_is_in_the_fingerprint():
    files = modules()
    roots = ("aegaeon.live", "aegaeon.policy", "baselines", "kernels")
    waiting, seen = [name for name in files if name.startswith(roots)], set()
    while waiting:
        name = waiting.pop()
        if name in files and name not in seen:
            seen.add(name)
            waiting += imported(files[name])
    assert {"aegaeon.errors", "aegaeon.paths", "aegaeon.core.work"} <= seen
    assert {name.partition(".")[0] for name in seen} <= set(SOURCES)


def test_a_change_of_any_source_changes_the_fingerprint(tmp_path):
    for package in SOURCES:
        for path in (ROOT / package).rglob("*.py"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.touch()
    digests = {code_digest(tmp_path)}
    changed = sorted(tmp_path.rglob("*.py"))
    for path in changed:
        path.write_text("pass")
        digests.add(code_digest(tmp_path))
    assert len(digests) == len(changed) + 1
    names = {path.relative_to(tmp_path).as_posix() for path in changed}
    assert {"aegaeon/errors.py", "baselines/muxserve/adbs.py"} <= names


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
