"""The parts that all claims share, and the result of a claim: evidence, then a verdict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

Decision = Literal["PASS", "MISS", "NO DATA"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The finding of a check.

    Attributes:
        low, high: the value lies in [low, high].
        ours: the value and its origin, in words.
        numbers: the numbers behind the value, by name.
    """

    low: float
    high: float
    ours: str
    numbers: Mapping[str, float] = field(default_factory=dict)


class NoDataError(Exception):
    """A stored table is missing, or lacks the runs of a system."""


@dataclass(frozen=True, kw_only=True)
class Claim(ABC):
    """One assertion of the paper; a subclass per `check` has the fields of that check.

    The head of `claims.yaml` explains the fields.
    """

    check: ClassVar[str]

    id: str
    section: str
    claim: str
    tables: tuple[str, ...]
    paper: float | None = None
    note: str = ""
    miss_reason: str = ""
    presets: tuple[Mapping[str, str], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", tuple(self.tables))
        object.__setattr__(self, "presets", tuple(self.presets))

    @abstractmethod
    def measure(self, stored: Path) -> Evidence:
        """Return the value in the stored tables; raise `NoDataError` if the tables lack it."""

    @abstractmethod
    def limits(self) -> tuple[float, float]:
        """Return the least and the largest value that pass."""

    @abstractmethod
    def accepted(self) -> str:
        """Return the limit in words, such as `≥ 1.8×`."""

    @property
    def table(self) -> str:
        """The one table of the claim; ValueError if the claim has none or several."""
        (name,) = self.tables
        return name

    def show(self, value: float) -> str:
        """Return a value in the unit of the check."""
        return f"{value:g}"

    def about(self, preset: Mapping[str, str]) -> Self:
        """Return the same claim with the systems replaced that `preset` names."""
        systems = {
            item.name: preset.get(getattr(self, item.name), getattr(self, item.name))
            for item in fields(self)
            if item.name in ("system", "over")
        }
        return replace(self, **systems)


@dataclass(frozen=True, kw_only=True)
class BoundClaim(Claim):
    """A claim with a lower or an upper bound."""

    at_least: float | None = None
    at_most: float | None = None

    def limits(self) -> tuple[float, float]:
        """Return the bounds; the bound that is not given is infinite."""
        least = float("-inf") if self.at_least is None else self.at_least
        return least, float("inf") if self.at_most is None else self.at_most

    def accepted(self) -> str:
        """Return the bound, in the unit of the check."""
        sign, limit = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        return f"{sign} {self.show(limit or 0.0)}"


@dataclass(frozen=True, kw_only=True)
class ErrorClaim(Claim):
    """A claim about an error, which must not exceed `tolerance`."""

    tolerance: float

    def limits(self) -> tuple[float, float]:
        """Return zero and the tolerance."""
        return 0.0, self.tolerance

    def accepted(self) -> str:
        """Return the tolerance, in percent unless tiny."""
        exact = self.tolerance < 1e-3
        return f"error ≤ {self.tolerance:{'g' if exact else '.0%'}}"


@dataclass(frozen=True, kw_only=True)
class AttainmentClaim(BoundClaim):
    """A claim about attainment: `metric` is the column of the rows that holds the attainment."""

    metric: str = "slo_attainment"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the claims table.

    Attributes:
        setting: `main`, the presets in place of the systems, or another metric.
        numbers: the numbers behind `ours`, by name.
        reason: explains a MISS or NO DATA, or is the note of a PASS.
    """

    id: str
    section: str
    claim: str
    tables: tuple[str, ...]
    setting: str
    expected: str
    ours: str
    numbers: Mapping[str, float]
    verdict: Decision
    reason: str


def points(share: float) -> str:
    """Return a difference of shares in percentage points."""
    return f"{100 * share:g} points"


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:g} %"
