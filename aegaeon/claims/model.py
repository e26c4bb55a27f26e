"""What a claim is, as read from `claims.yaml`, and what becomes of it: a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from aegaeon.errors import UserError

FILE = Path(__file__).with_name("claims.yaml")

Outcome = Literal["PASS", "MISS", "NO DATA"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One assertion; the head of `claims.yaml` explains the fields."""

    id: str
    section: str
    claim: str
    check: str
    tables: tuple[str, ...]
    system: str = ""
    over: str = ""
    metric: str = "slo_attainment"
    paper: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    up_to: float | None = None
    service_s: float = 0.0
    tolerance: float = 0.0
    note: str = ""
    miss_reason: str = ""
    presets: tuple[Mapping[str, str], ...] = ()
    detail: str = ""
    column: str = ""
    where: Mapping[str, str | float] = field(default_factory=dict)
    below: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", tuple(self.tables))
        object.__setattr__(self, "presets", tuple(self.presets))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a check found: the value lies in [low, high]; `ours` and `numbers` say how it came."""

    low: float
    high: float
    ours: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of claim is measured, and how its limits are written.

    `is_error`: judged by the claim's `tolerance`. `of_attainment`: judged a second time by the
    public artifact's own metric.
    """

    measure: Callable[[Claim, Path], Evidence]
    show: Callable[[float], str] = "{:g}".format
    is_error: bool = False
    of_attainment: bool = False


class NoDataError(Exception):
    """A stored table or a system's runs in it are missing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the claims table.

    `setting` is `main`, names the presets that stand in for systems, or another metric. `numbers`
    are the values behind `ours`; `reason` explains a MISS or NO DATA, or notes what to know about
    a PASS.
    """

    id: str
    section: str
    claim: str
    tables: tuple[str, ...]
    setting: str
    expected: str
    ours: str
    numbers: Mapping[str, float]
    verdict: Outcome
    reason: str


def load_claims(path: Path = FILE) -> list[Claim]:
    """Read the claims; UserError when an entry has an unknown or missing field."""
    claims = []
    for position, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8"))):
        try:
            claims.append(Claim(**entry))
        except TypeError as error:
            name = entry.get("id", f"entry {position}")
            raise UserError(f"{path}: claim {name}: {error}; see the head of the file") from error
    return claims
