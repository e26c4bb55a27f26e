"""A checkpoint that cannot be loaded is refused by looking at its files, with the file's name."""

import json

import pytest

from aegaeon.core import ModelSpec
from aegaeon.errors import UserError
from aegaeon.live.preflight.checkpoints import INDEX, check_checkpoint

SHAPE = {"parameters": 1e5, "layers": 1, "hidden": 128, "ffn": 128}
SHAPE |= {"heads": 4, "kv_heads": 1, "head_dim": 32, "max_len": 256}
SPEC = ModelSpec("m0", "qwen", **SHAPE)


def tensors(nbytes: int = 64) -> bytes:
    """Return a safetensors file of one tensor."""
    entry = {"dtype": "U8", "shape": [nbytes], "data_offsets": [0, nbytes]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": entry}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * nbytes


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 256}))
    (tmp_path / "model.safetensors").write_bytes(tensors())
    return tmp_path


def test_whole_files_pass(folder):
    check_checkpoint(SPEC, folder)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"w": "model.safetensors"}}))
    check_checkpoint(SPEC, str(folder))


def test_weights_in_another_format_are_left_to_vllm(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    check_checkpoint(SPEC, folder)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", None, "model m0: .* holds no config.json; give .*type qwen"),
        ("config.json", b"{not", "config.json: not readable as JSON"),
        ("config.json", b"[]", "config.json: expected a JSON object"),
        ("model.safetensors", None, "holds no weights"),
        ("model.safetensors", b"", "model.safetensors: missing, cut short or corrupt"),
        ("model.safetensors", b"\0" * 99, "model.safetensors: missing, cut short or corrupt"),
        ("model.safetensors", b"\xff" * 99, "model.safetensors: missing, cut short or corrupt"),
        ("model.safetensors", tensors()[:-1], r"cut short.*\d+ bytes, its header says \d+"),
        ("model.safetensors", tensors() + b"\0", r"\d+ bytes, its header says \d+"),
        ("model.safetensors", (2).to_bytes(8, "little") + b"[]", "corrupt"),
        (INDEX, b"{}", "expected a JSON object with weight_map"),
        (INDEX, b'{"weight_map": {"w": "a.safetensors"}}', "a.safetensors: missing"),
    ],
)
def test_what_is_missing_or_cut_short_is_named(name, content, says, folder):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        check_checkpoint(SPEC, folder)


def test_requests_longer_than_the_model_allows_are_refused(folder):
    config = {"max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"qwen has max_len 256, the checkpoint allows 64 .*config"):
        check_checkpoint(SPEC, folder)
    config["rope_scaling"] = {"type": "yarn", "factor": 4.0}
    (folder / "config.json").write_text(json.dumps(config))
    check_checkpoint(SPEC, folder)
