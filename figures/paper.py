"""The paper's stated values, for marks that look different from our data."""

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
    """A value the paper states, what it says and where; `derived` when arithmetic was needed."""

    value: float
    says: str
    where: str
    bound: str = ""
    derived: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """What the paper states of one panel: models at 90 %, Aegaeon's ratio over others, a text."""

    mean: Stated | None = None
    models: Mapping[str, Stated] = field(default_factory=dict)
    ratios: Mapping[str, Stated] = field(default_factory=dict)
    text: str = ""


@cache
def references() -> Mapping[str, Reference]:
    """Read `paper.yaml`: panel name to what the paper states about it."""
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
