"""Mooncake's traces (FAST'25 release): one JSON object a line."""

from __future__ import annotations

from pathlib import Path

from workloads.readers.cells import read_jsonl_cells, seconds, tokens
from workloads.readers.trace import Trace, make_trace

KEYS = ("timestamp", "input_length", "output_length")


def read_mooncake(path: Path) -> Trace:
    """Read a Mooncake JSONL file (timestamps in ms); `hash_ids` are ignored.

    Raises `UserError` naming file, line and reason.
    """
    cells = read_jsonl_cells(path, KEYS)
    return make_trace(
        path,
        seconds(path, cells, "timestamp") / 1000,
        tokens(path, cells, "input_length"),
        tokens(path, cells, "output_length"),
    )
