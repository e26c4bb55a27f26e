"""Checks of a checkpoint's files; needs no torch, and reads no weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aegaeon.core import ModelSpec
from aegaeon.errors import UserError, reason
from aegaeon.live.options import TINY

DTYPES = {2: "bfloat16", 4: "float32"}
INDEX = "model.safetensors.index.json"
# Other formats that vLLM reads. Only the header of a safetensors file tells the file's size.
_OTHERS = ("*.bin", "*.pt", "*.pth", "*.gguf")
_LENGTH_BYTES = 8


def check_checkpoint(spec: ModelSpec, folder: str | Path) -> None:
    """Raise UserError unless `folder` holds a whole checkpoint of the model `spec`.

    The error names the file that is missing or cut short, or the limit below `spec.max_len` tokens.
    """
    path = Path(folder)
    config = path / "config.json"
    if not config.is_file():
        raise UserError(
            f"model {spec.name}: {path} holds no config.json; give a checkpoint's folder "
            f"(backend.checkpoints, type {spec.type})"
        )
    settings = _json(config)
    for file in _tensor_files(path):
        _check_size(file)
    _check_length(spec, config, settings)


def check_random(spec: ModelSpec) -> None:
    """Raise UserError unless a random model of `spec`'s type and shape can be built.

    The type must be tiny-ARCHITECTURE, with hidden = heads * head_dim and 2 or 4 bytes per weight.
    """
    if not spec.type.startswith(TINY):
        raise UserError(
            f"backend.checkpoints: no folder for model type {spec.type}; give one, as in "
            f"'+backend.checkpoints={{{spec.type}: FOLDER}}'"
        )
    if spec.hidden != spec.heads * spec.head_dim or spec.dtype_bytes not in DTYPES:
        raise UserError(
            f"conf/model/{spec.type}.yaml: a tiny model needs hidden = heads * head_dim and "
            f"dtype_bytes 2 or 4, got {spec.hidden}, {spec.heads} * {spec.head_dim}, "
            f"{spec.dtype_bytes}"
        )


def _json(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file}: not readable as JSON ({reason(error)}); download it again"
        ) from error
    if not isinstance(found, dict):
        raise UserError(f"{file}: expected a JSON object; download it again")
    return found


def _tensor_files(path: Path) -> Iterator[Path]:
    """Yield the safetensors files that the index names; without an index, all of the folder."""
    index = path / INDEX
    if index.is_file():
        names = _json(index).get("weight_map")
        if not isinstance(names, dict):
            raise UserError(f"{index}: expected a JSON object with weight_map; download it again")
        yield from [path / name for name in sorted(set(names.values()))]
        return
    files = sorted(path.glob("*.safetensors"))
    if not files and not any(any(path.glob(kind)) for kind in _OTHERS):
        raise UserError(f"{path}: holds no weights, such as model.safetensors; download them")
    yield from files


def _check_size(file: Path) -> None:
    """Compare a file's size with its header.

    A safetensors file has the header's length (8 bytes), the header (JSON), and the tensors.
    """
    try:
        with file.open("rb") as stored:
            length = int.from_bytes(stored.read(_LENGTH_BYTES), "little")
            size = file.stat().st_size
            if not 1 < length <= size - _LENGTH_BYTES:
                raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
            header = json.loads(stored.read(length))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name[:2] != "__"]
        whole = _LENGTH_BYTES + length + max(ends, default=0)
        if size != whole:
            raise ValueError(f"{size:,} bytes, its header says {whole:,}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{file}: missing, cut short or corrupt ({reason(error)}); download it again"
        ) from error


def _check_length(spec: ModelSpec, config: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a max_len above the model's positions, unless the model scales positions."""
    most = settings.get("max_position_embeddings")
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    scaled = rope.get("rope_type", rope.get("type", "default")) != "default"
    if isinstance(most, int) and spec.max_len > most and not scaled:
        raise UserError(
            f"models.types: {spec.type} has max_len {spec.max_len}, the checkpoint allows {most} "
            f"({config}); lower it"
        )
