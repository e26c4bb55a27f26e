"""Rows that differ from an experiment's own settings: a letter per set of overrides, and a key."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

import pandas as pd


def lettered(tables: Mapping[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Return the tables with letters in place of overrides, and the lines that explain them.

    Equal overrides have one letter in all tables. Empty overrides stay empty.
    """
    found = sorted({text for table in tables.values() for text in table["overrides"]} - {""})
    letters = {text: _letter(at) for text, at in zip(found, count(), strict=False)}
    named = {
        name: table.assign(overrides=table["overrides"].map({"": ""} | letters))
        for name, table in tables.items()
    }
    return named, [f"({letter}) with {text}" for text, letter in letters.items()]


def _letter(position: int) -> str:
    """Return a, b, …, z, aa, ab, …."""
    rest, letter = divmod(position, 26)
    return (_letter(rest - 1) if rest else "") + chr(ord("a") + letter)
