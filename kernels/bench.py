"""`python -m kernels.bench`: every variant against one memcpy of the same number of bytes."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from kernels.bench_cases import Case


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table for one device; exit code 2 without torch or without the device."""
    parser = argparse.ArgumentParser("python -m kernels.bench", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(cuda where there is one)")
    parser.add_argument("--repeats", type=int, default=15, help="rounds per shape (15)")
    options = parser.parse_args(argv)
    if options.repeats < 1:
        parser.error("--repeats: expected at least 1")
    try:
        import torch
    except ImportError:
        parser.error("the kernels need torch: install the live extra (make live)")
    from kernels.bench_cases import SHAPES, Case

    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no CUDA device; use --device cpu")
    # The baseline is one thread's memcpy, so the reference may use no more.
    torch.set_num_threads(1)
    table = _table(f"KV blocks, {device.type}: random block ids, medians of {options.repeats}")
    for shape in SHAPES:
        _measure(table, Case(shape, device), options.repeats)
    console = Console()
    # A pipe has no width, and rich would cut columns at 80 characters.
    console.width = max(console.width, 120)
    console.print(table)
    return 0


def _measure(table: Table, case: Case, repeats: int) -> None:
    from kernels.bench_cases import interleaved, ratio

    variants = case.variants()
    cuda = case.device.type == "cuda"
    gathers = interleaved({name: copies[0] for name, copies in variants.items()}, repeats, cuda)
    scatters = interleaved({name: copies[1] for name, copies in variants.items()}, repeats, cuda)
    moved = case.slabs.numel()
    about = [case.shape.name, f"{case.layout.chunk / 1024:,.0f} KiB", f"{moved / 2**20:.0f} MiB"]
    for name in variants:
        cells = []
        for taken in (gathers, scatters):
            speed = moved / statistics.median(taken[name]) / 1e9
            cells += [f"{speed:.1f} GB/s", f"{ratio(taken, name):.2f}"]
        table.add_row(*about, name, *cells)
        about = ["", "", ""]
    table.add_section()


def _table(title: str) -> Table:
    table = Table(title=title)
    for heading in ("cache", "chunk", "moved", "variant"):
        table.add_column(heading, justify="right" if heading in ("chunk", "moved") else "left")
    for heading in ("gather", "x memcpy", "scatter", "x memcpy"):
        table.add_column(heading, justify="right")
    return table


if __name__ == "__main__":
    sys.exit(main())
