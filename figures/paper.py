"""The paper's stated values. The marks of these values look different from our data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("paper.yaml")


@dataclass(frozen=True, slots=True)
class Stated:
    """A value of the paper.

    Attributes:
        value: the number.
        says: the paper's statement.
        where: section or figure of the statement.
        bound: "", "≥" or "up to ".
        derived: the arithmetic from the statement to the value, or "".
    """

    value: float
    says: str
    where: str
    bound: str = ""
    derived: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """The paper's statements about one panel.

    Attributes:
        mean: the mean number of active models.
        models: the number of models at 90 %, by system.
        ratios: Aegaeon's load at 90 % over a system's load, by system.
        text: a statement without a number per system.
    """

    mean: Stated | None = None
    models: Mapping[str, Stated] = field(default_factory=dict)
    ratios: Mapping[str, Stated] = field(default_factory=dict)
    text: str = ""


@cache
def references() -> Mapping[str, Reference]:
    """Return the paper's statements in `paper.yaml`, by panel name."""
    raw: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {
        panel: Reference(
            mean=Stated(**entry["mean"]) if "mean" in entry else None,
            models={name: Stated(**mark) for name, mark in entry.get("models", {}).items()},
            ratios={name: Stated(**mark) for name, mark in entry.get("ratios", {}).items()},
            text=entry.get("text", ""),
        )
        for panel, entry in raw.items()
    }
