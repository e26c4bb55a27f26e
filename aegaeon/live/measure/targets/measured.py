"""All targets of the live engine in one call: measure, print, write."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aegaeon.live.measure.targets.numbers import Number


def measured(
    device: str | None, parts: Sequence[str], rounds: int, megabytes: int, models: int, path: Path
) -> bool:
    """Measure `parts`, print the numbers, and write them to `path`.

    `rounds` are interleaved rounds, `megabytes` the MiB of weights of a switch, and `models` the
    engines in one process. Returns whether every target is reached. Raises UserError for a device
    that is not there.
    """
    # Spinning worker threads make tiny steps many times slower on a shared machine. Torch reads the
    # variable on import.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch

    from aegaeon.live.measure.targets.numbers import machine, show, store

    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    numbers = list(_numbers(name, parts, rounds, megabytes << 20, models))
    about = machine()
    show(numbers, f"{name}, {about['cpu']}, load {about['load']}: medians of {rounds}")
    store(numbers, rounds, path)
    return not any(number.reached is False for number in numbers)


def _numbers(
    name: str, parts: Sequence[str], rounds: int, nbytes: int, models: int
) -> Iterator[Number]:
    import torch

    from aegaeon.live.measure.targets.copies import KV_BLOCKS, kv_restore, weights
    from aegaeon.live.memory.device import open_device

    # The reference is one thread's memcpy, so the engine may use one thread only.
    torch.set_num_threads(1)
    device = open_device(name)
    if "weights" in parts:
        yield from weights(device, nbytes, rounds)
    if "kv" in parts:
        yield from (kv_restore(device, rounds, blocks) for blocks in KV_BLOCKS)
    with tempfile.TemporaryDirectory() as folder:
        if "engines" in parts:
            from aegaeon.live.measure.targets.engines import many

            yield from many(device, Path(folder), models)
        if "pooling" in parts:
            from aegaeon.live.measure.targets.pooling import one_model

            yield from one_model(device, Path(folder), rounds)
