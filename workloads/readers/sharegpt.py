"""ShareGPT conversations: lengths from the text, arrivals drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aegaeon.errors import UserError
from workloads.checks import require_positive
from workloads.readers.cells import unreadable
from workloads.readers.trace import Trace, make_trace
from workloads.streams import Purpose, stream

TokenCount = Callable[[str], int]
_BYTES_PER_TOKEN = 4


def estimate_tokens(text: str) -> int:
    """Estimate a text's tokens: its words, or a quarter of its UTF-8 bytes if that is more."""
    size = len(text.encode("utf-8", errors="replace"))
    return max(len(text.split()), -(-size // _BYTES_PER_TOKEN))


def read_sharegpt(
    path: Path, total_rps: float, seed: int = 0, count_tokens: TokenCount = estimate_tokens
) -> Trace:
    """Read a ShareGPT JSON file; every answer is one request, in an order drawn by `seed`.

    Its input is the conversation so far, as in the paper's artifact; arrivals are Poisson with
    `total_rps` requests/s in all. Answers that are empty or have nothing before them are left out
    and counted in `skipped`. Raises `UserError` naming file, place and reason.
    """
    require_positive(rate_rps=total_rps)
    turns = [
        pair
        for number, entry in enumerate(_load(path))
        for pair in _answers(path, number, entry, count_tokens)
    ]
    pairs = np.array(turns, dtype=np.int64).reshape(-1, 2)
    kept = pairs[(pairs > 0).all(axis=1)]
    rng = stream(seed, Purpose.CONVERSATIONS)
    kept = rng.permutation(kept)
    arrivals = np.cumsum(rng.standard_exponential(len(kept))) / total_rps
    return make_trace(path, arrivals, kept[:, 0], kept[:, 1], skipped=len(pairs) - len(kept))


def _load(path: Path) -> list[dict[str, Any]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}); is it truncated?"
        ) from error
    except (OSError, ValueError) as error:
        unreadable(path, error)
    if not isinstance(document, list):
        raise UserError(f"{path}: expected a list of conversations at the top level")
    return document


def _answers(
    path: Path,
    number: int,
    entry: dict[str, Any],
    count_tokens: TokenCount,
) -> list[tuple[int, int]]:
    """Return (tokens before, tokens of) each answer in a conversation."""
    pairs, before = [], 0
    try:
        for turn in entry["conversations"]:
            length = count_tokens(turn["value"])
            if turn["from"] in ("gpt", "chatgpt", "assistant"):
                pairs.append((before, length))
            before += length
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: conversation {number} (from 0): expected 'conversations' with "
            f"'from' and 'value' texts, failed on {error!r}"
        ) from error
    return pairs
