"""Conversations without arrival times: lengths come from the text (ShareGPT, LMSYS, vLLM)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from aegaeon.errors import UserError
from workloads.readers.cells import json_lines
from workloads.readers.files import FAULTS, opened, unreadable
from workloads.readers.trace import Trace, make_trace

TokenCount = Callable[[str], int]
_BYTES_PER_TOKEN = 4
_LISTS = ("conversations", "conversation", "messages")
_ANSWERS = ("gpt", "chatgpt", "assistant", "bard", "model")
Entries = Iterator[tuple[str, Any]]
Lengths = tuple[int, int]


def estimate_tokens(text: str) -> int:
    """Estimate a text's tokens: its words, or a quarter of its UTF-8 bytes if that is more."""
    size = len(text.encode("utf-8", errors="replace"))
    return max(len(text.split()), -(-size // _BYTES_PER_TOKEN))


def read_conversations(path: Path, count_tokens: TokenCount = estimate_tokens) -> Trace:
    """Read conversations; every answer is a request, whose input is the conversation so far.

    The file is a JSON list, JSON lines, or Parquet. A conversation is a list `conversations`,
    `conversation` or `messages` of turns with `from` and `value`, or `role` and `content`. Answers
    that are empty or have nothing before them are left out and counted in `skipped`. Raises
    `UserError` naming file, place and reason.
    """
    pairs: list[Lengths] = []
    models: list[str | None] = []
    for place, entry in _entries(path):
        found = _answers(path, place, entry, count_tokens)
        pairs += found
        models += [entry.get("model")] * len(found)
    lengths = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    kept = (lengths > 0).all(axis=1)
    labels = None if not any(models) else pd.Categorical(np.array(models, dtype=object)[kept])
    inputs, outputs = lengths[kept].T
    return make_trace(path, None, inputs, outputs, labels, skipped=int((~kept).sum()))


def read_vllm(path: Path, count_tokens: TokenCount = estimate_tokens) -> Trace:
    """Read the JSON lines of vLLM's custom dataset: `prompt`, and `output_tokens`.

    Rows with an empty prompt are left out and counted. Raises `UserError` naming file and line.
    """
    pairs = []
    for number, row in json_lines(path):
        prompt = row.get("prompt") if isinstance(row, dict) else None
        tokens = row.get("output_tokens") if isinstance(row, dict) else None
        if not isinstance(prompt, str) or type(tokens) is not int or not 0 < tokens < 2**31:
            raise UserError(
                f"{path}, line {number}: expected an object with a text 'prompt' and a whole "
                "number 'output_tokens' >= 1"
            )
        pairs.append((count_tokens(prompt), tokens))
    lengths = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    kept = lengths[:, 0] > 0
    inputs, outputs = lengths[kept].T
    return make_trace(path, None, inputs, outputs, skipped=int((~kept).sum()))


def _entries(path: Path) -> Entries:
    """Yield every conversation and its place in the file."""
    try:
        with opened(path) as file:
            start = file.read(4096)
    except FAULTS as error:
        unreadable(path, error)
    if start.startswith(b"PAR1"):
        yield from _parquet(path)
    elif start.lstrip().startswith(b"{"):
        yield from ((f"line {number}", entry) for number, entry in json_lines(path))
    else:
        yield from ((f"conversation {n} (from 0)", e) for n, e in enumerate(_whole(path)))


def _parquet(path: Path) -> Entries:
    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(4096):
            for entry in batch.to_pylist():
                yield f"row {number} (from 0)", entry
                number += 1
    except FAULTS as error:
        unreadable(path, error)


def _whole(path: Path) -> list[Any]:
    try:
        with opened(path) as file:
            document = json.loads(file.read().decode("utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}); is it truncated?"
        ) from error
    except FAULTS as error:
        unreadable(path, error)
    if not isinstance(document, list):
        raise UserError(f"{path}: expected a list of conversations at the top level")
    return document


def _answers(path: Path, place: str, entry: Any, count_tokens: TokenCount) -> list[Lengths]:  # noqa: ANN401
    """Return (tokens before, tokens of) each answer in a conversation."""
    pairs, before = [], 0
    try:
        for turn in next(entry[key] for key in _LISTS if key in entry):
            names = ("from", "value") if "from" in turn else ("role", "content")
            speaker, text = (turn[name] for name in names)
            length = count_tokens(text)
            if speaker in _ANSWERS:
                pairs.append((before, length))
            before += length
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        raise UserError(
            f"{path}, {place}: expected 'conversations' (or 'conversation', 'messages') with "
            f"'from' and 'value' texts, or 'role' and 'content', failed on {error!r}"
        ) from error
    return pairs
