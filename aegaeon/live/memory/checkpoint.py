"""Safetensors checkpoints read into packed bytes by several threads, with a progress bar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from safetensors import SafetensorError, safe_open

from aegaeon.errors import UserError
from aegaeon.live.memory.weight_layout import PackedTensor, WeightLayout, named_tensors

CHUNK_BYTES = 64 << 20
INDEX = "model.safetensors.index.json"

_Job = tuple[Path, list[PackedTensor]]


def read_checkpoint(
    checkpoint: Path,
    layout: WeightLayout,
    out: torch.Tensor,
    module: torch.nn.Module | None = None,
    readers: int = 4,
) -> None:
    """Fill `out`, uint8 [layout.nbytes], from a checkpoint folder or one .safetensors file.

    Element types are converted to the layout's. A tied tensor may be stored under any of its names;
    what a checkpoint does not store (non-persistent buffers) is taken from `module`. Raises
    UserError naming the file that is missing, corrupt or of other shapes.
    """
    home = _tensor_files(checkpoint)
    rest = _absent(layout, home)
    if rest:
        _copy_from_module(checkpoint, rest, out, module)
    jobs = _jobs([tensor for tensor in layout.tensors if tensor.name in home], home, out)
    with (
        _progress() as progress,
        ThreadPoolExecutor(readers, thread_name_prefix="weights-reader") as pool,
    ):
        task = progress.add_task(f"loading {checkpoint.name}", total=layout.nbytes)
        for nbytes in pool.map(lambda job: _read(job, out), jobs):
            progress.advance(task, nbytes)
        progress.update(task, completed=layout.nbytes)


def _progress() -> Progress:
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    text = TextColumn("{task.description}")
    return Progress(text, *columns, console=Console(stderr=True), transient=True)


def _tensor_files(checkpoint: Path) -> dict[str, Path]:
    """Return which file holds each tensor, by the tensor's name."""
    if checkpoint.is_file():
        files = [checkpoint]
    elif (checkpoint / INDEX).is_file():
        files = [checkpoint / name for name in _indexed(checkpoint / INDEX)]
    else:
        files = sorted(checkpoint.glob("*.safetensors"))
    if not files:
        raise UserError(f"{checkpoint}: no .safetensors file here; give a checkpoint's folder")
    return {name: file for file in files for name in _names(file)}


def _indexed(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{index}: expected a JSON object with weight_map ({error!r}); download it again"
        ) from error


def _corrupt(file: Path, error: Exception) -> UserError:
    return UserError(f"{file}: missing, cut short or corrupt ({error}); download it again")


def _names(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="pt") as stored:
            return list(stored.keys())
    except (OSError, SafetensorError) as error:
        raise _corrupt(file, error) from error


def _place(tensor: PackedTensor) -> tuple[object, ...]:
    return tensor.offset, tensor.shape, tensor.stride, tensor.dtype


def _absent(layout: WeightLayout, home: dict[str, Path]) -> list[PackedTensor]:
    """Return the tensors stored under none of their names."""
    stored = {_place(tensor) for tensor in layout.tensors if tensor.name in home}
    return [tensor for tensor in layout.tensors if _place(tensor) not in stored]


def _copy_from_module(
    checkpoint: Path,
    tensors: Sequence[PackedTensor],
    out: torch.Tensor,
    module: torch.nn.Module | None,
) -> None:
    if module is None:
        names = ", ".join([tensor.name for tensor in tensors[:3]])
        raise UserError(
            f"{checkpoint}: {len(tensors)} of the model's tensors are not stored here "
            f"({names} ...); is it another model's checkpoint?"
        )
    named = named_tensors(module)
    buffers = dict(module.named_buffers(remove_duplicate=False))
    for tensor in tensors:
        if tensor.name not in buffers:
            raise UserError(f"{checkpoint}: weight {tensor.name} is not stored in any file here")
        tensor.view(out).copy_(named[tensor.name])


def _jobs(tensors: Sequence[PackedTensor], home: dict[str, Path], out: torch.Tensor) -> list[_Job]:
    """Group tensors of one file into pieces of about CHUNK_BYTES, so that threads share a file."""
    jobs: list[_Job] = []
    room: dict[Path, int] = {}
    current: dict[Path, list[PackedTensor]] = {}
    for tensor in tensors:
        file = home[tensor.name]
        if room.get(file, 0) <= 0:
            current[file], room[file] = [], CHUNK_BYTES
            jobs.append((file, current[file]))
        current[file].append(tensor)
        room[file] -= tensor.view(out).nbytes
    return jobs


def _read(job: _Job, out: torch.Tensor) -> int:
    file, tensors = job
    nbytes = 0
    try:
        with safe_open(file, framework="pt") as stored:
            for tensor in tensors:
                target = tensor.view(out)
                source = stored.get_tensor(tensor.name)
                if source.shape != target.shape:
                    raise UserError(
                        f"{file}: {tensor.name} has shape {list(source.shape)}, the model's has "
                        f"{list(target.shape)}; is it another model's checkpoint?"
                    )
                target.copy_(source)
                nbytes += target.nbytes
    except (OSError, SafetensorError) as error:
        raise _corrupt(file, error) from error
    return nbytes
