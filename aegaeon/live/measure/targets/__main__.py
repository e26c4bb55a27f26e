"""`python -m aegaeon.live.measure.targets`: the live engine against its targets, measured here."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aegaeon.live.measure.targets import STORED

# Spinning worker threads make tiny steps many times slower on a shared machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

if TYPE_CHECKING:
    from aegaeon.live.measure.targets.numbers import Number

PARTS = ("weights", "kv", "engines", "pooling")


def main(argv: Sequence[str] | None = None) -> int:
    """Print and store the numbers; exit code 1 if one is not reached, 2 for bad input."""
    parser = argparse.ArgumentParser("python -m aegaeon.live.measure.targets", description=__doc__)
    parser.add_argument("--device", help="cpu, cuda or cuda:<index> (cuda where there is one)")
    parser.add_argument("--rounds", type=int, default=11, help="interleaved rounds (11)")
    parser.add_argument("--megabytes", type=int, default=128, help="weights of a switch (128)")
    parser.add_argument("--models", type=int, default=20, help="engines in one process (20)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts (all)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, default=Path("runs/bench_live.json"), help="file")
    where.add_argument("--store", action="store_true", help=f"keep them for claims, in {STORED}")
    options = parser.parse_args(argv)
    if options.store and set(options.only) != set(PARTS):
        parser.error("--store: claims need every number; leave --only out")
    if options.rounds < 1 or options.models < 3 or options.megabytes < 1:
        parser.error("--rounds and --megabytes: expected at least 1; --models: at least 3")
    try:
        import torch
    except ImportError:
        parser.error("the live engine needs torch: make live-setup")
    from aegaeon.errors import UserError
    from aegaeon.live.measure.targets.numbers import machine, show, store

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        numbers = _measure(device, options)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    about = machine()
    show(numbers, f"{device}, {about['cpu']}, load {about['load']}: medians of {options.rounds}")
    path = STORED if options.store else options.out
    store(numbers, options.rounds, path)
    print(path)
    return int(any(number.reached is False for number in numbers))


def _measure(name: str, options: argparse.Namespace) -> list[Number]:
    import torch

    from aegaeon.live.measure.targets.copies import KV_BLOCKS, kv_restore, weights
    from aegaeon.live.memory.device import open_device

    # The base is one thread's memcpy, so the engine may use no more.
    torch.set_num_threads(1)
    device = open_device(name)
    numbers = []
    if "weights" in options.only:
        numbers += weights(device, options.megabytes << 20, options.rounds)
    if "kv" in options.only:
        numbers += [kv_restore(device, options.rounds, blocks) for blocks in KV_BLOCKS]
    with tempfile.TemporaryDirectory() as folder:
        if "engines" in options.only:
            from aegaeon.live.measure.targets.engines import many

            numbers += many(device, Path(folder), options.models)
        if "pooling" in options.only:
            from aegaeon.live.measure.targets.pooling import one_model

            numbers += one_model(device, Path(folder), options.rounds)
    return numbers


if __name__ == "__main__":
    code = main()
    # Triton's bindings list what engines of theirs still hold when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.exit(code)
