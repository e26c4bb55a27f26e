"""`aegaeon bench kernels`: every variant against one memcpy of the same number of bytes."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from kernels.bench_cases import Case


def compare(device: str | None, repeats: int) -> None:
    """Print the table for `device`, "cpu" or "cuda" (None: "cuda" if there is one); needs torch.

    Raises ValueError for "cuda" where torch finds no CUDA device.
    """
    import torch

    from kernels.bench_cases import SHAPES, Case

    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no CUDA device; use --device cpu")
    # The baseline is one thread's memcpy, so the reference may use no more.
    torch.set_num_threads(1)
    table = _table(f"KV blocks, {kind}: random block ids, medians of {repeats}")
    for shape in SHAPES:
        _measure(table, Case(shape, torch.device(kind)), repeats)
    console = Console()
    # A pipe has no width, and rich would cut columns at 80 characters.
    console.width = max(console.width, 120)
    console.print(table)


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
