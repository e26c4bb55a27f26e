"""Claims about attainment in rows. A value that a sweep only bounds is kept as an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pandas as pd

from aegaeon.claims.model import (
    AttainmentClaim,
    BoundClaim,
    Claim,
    Evidence,
    NoDataError,
    points,
)
from aegaeon.errors import UserError
from aegaeon.results.store import load_own, reading_folder, stored_path
from aegaeon.scoring.goodput import Curves, lacking, sweep


def rows_of(name: str, stored: Path) -> pd.DataFrame:
    """Return the experiment's own stored rows; `NoDataError` if missing, damaged or ambiguous."""
    path = stored_path(name, reading_folder(name, stored))
    state = path.stat() if path.exists() else None
    try:
        return _rows(name, stored, state and (state.st_mtime_ns, state.st_size))
    except UserError as error:
        raise NoDataError(str(error)) from error


@lru_cache(maxsize=32)
def _rows(name: str, stored: Path, state: tuple[int, int] | None) -> pd.DataFrame:
    """Return the rows of `rows_of`, which many claims read; `state` tells a file that changed."""
    return load_own(name, stored)


def part_of_sweep(claim: Claim, stored: Path) -> str:
    """Return which of the claim's systems and loads its tables lack; empty if none, or no sweep."""
    systems = [getattr(claim, name) for name in ("system", "over") if hasattr(claim, name)]
    if not isinstance(claim, (AttainmentClaim, Placed)) or not systems:
        return ""
    found = [lacking(rows_of(name, stored), name, systems) for name in claim.tables]
    return "; ".join(filter(None, found))


@dataclass(frozen=True, kw_only=True)
class Load(AttainmentClaim):
    """The load of `system` at 90 % attainment."""

    check = "load"
    system: str

    def measure(self, stored: Path) -> Evidence:
        """Return the load, in the unit of the sweep's axis."""
        low, high = _load(_sweep(self, self.table, stored, self.system), self.system)
        return Evidence(low, high, _text(low, high), _bounds(self.system, low, high))


@dataclass(frozen=True, kw_only=True)
class Placed(BoundClaim):
    """The largest load at which `system` refuses or drops no request, in any seed."""

    check = "placed"
    system: str

    def measure(self, stored: Path) -> Evidence:
        """Return the load, in the unit of the sweep's axis."""
        table = rows_of(self.table, stored)
        data = sweep(table, self.table)
        failed = table[table["system"] == self.system].groupby(data.axis)["failed"].max()
        if failed.empty:
            raise NoDataError(f"stored table {self.table} has no runs of {self.system}")
        kept = failed[failed == 0].index
        low = float(kept.max()) if len(kept) else 0.0
        high = math.inf if low == float(failed.index[-1]) else low
        return Evidence(low, high, _text(low, high), _bounds(self.system, low, high))


@dataclass(frozen=True, kw_only=True)
class Ratio(AttainmentClaim):
    """The load of `system` at 90 % over the load of `over`; of several tables the best counts."""

    check = "ratio"
    system: str
    over: str

    def show(self, value: float) -> str:
        """Return a factor."""
        return f"{value:g}×"

    def measure(self, stored: Path) -> Evidence:
        """Return the ratio of the table with the largest lower bound."""
        found = [self._of_table(name, stored) for name in self.tables]
        return max(found, key=lambda finding: finding.low)

    def _of_table(self, name: str, stored: Path) -> Evidence:
        data = _sweep(self, name, stored, self.system, self.over)
        (low, high), (other_low, other_high) = (_load(data, s) for s in (self.system, self.over))
        least = low / other_high
        most = high / other_low if other_low else math.inf
        text = f"{_text(low, high)} / {_text(other_low, other_high)} = {_text(least, most)}×"
        numbers = _bounds(self.system, low, high) | _bounds(self.over, other_low, other_high)
        where = f" ({name})" if len(self.tables) > 1 else ""
        return Evidence(least, most, text + where, numbers | _bounds("ratio", least, most))


@dataclass(frozen=True, kw_only=True)
class Lead(AttainmentClaim):
    """The mean difference of attainment, `system` less `over`, over the loads that both have.

    Loads above `up_to` are left out.
    """

    check = "lead"
    system: str
    over: str
    up_to: float | None = None

    def show(self, value: float) -> str:
        """Return a difference in percentage points."""
        return points(value)

    def measure(self, stored: Path) -> Evidence:
        """Return the difference of the two means."""
        data = _sweep(self, self.table, stored, self.system, self.over)
        both = data.mean[[self.system, self.over]].dropna()
        both = both[both.index <= (self.up_to or math.inf)]
        if both.empty:
            raise NoDataError(
                f"stored table {self.table}: no load shared by {self.system}, {self.over}"
            )
        means = both.mean()
        gap = float(means[self.system] - means[self.over])
        numbers = {system: float(means[system]) for system in (self.system, self.over)}
        text = f"{numbers[self.system]:.1%} − {numbers[self.over]:.1%} = {100 * gap:+.1f} points"
        return Evidence(gap, gap, text, numbers | {"lead": gap})


@dataclass(frozen=True, kw_only=True)
class Order(AttainmentClaim):
    """The smallest gap of mean attainment between neighbouring targets in the rows' `column`.

    A larger target is easier. A gap is the mean at the easier target less the mean at the harder.
    """

    check = "order"
    column: str

    def show(self, value: float) -> str:
        """Return a difference in percentage points."""
        return points(value)

    def measure(self, stored: Path) -> Evidence:
        """Return the smallest gap; `NoDataError` if the rows have one target only."""
        table = rows_of(self.table, stored)
        levels = sorted(table[self.column].unique())
        means = [float(table.loc[table[self.column] == at, self.metric].mean()) for at in levels]
        if len(means) < 2:
            raise NoDataError(f"stored table {self.table} has one value of {self.column} only")
        gap = min(easy - hard for hard, easy in pairwise(means))
        text = " < ".join(f"{mean:.1%}" for mean in means)
        numbers = {f"{self.column}={at:g}": mean for at, mean in zip(levels, means, strict=True)}
        return Evidence(gap, gap, f"{text}: {100 * gap:+.1f} points", numbers | {"gap": gap})


def _sweep(claim: AttainmentClaim, name: str, stored: Path, *systems: str) -> Curves:
    data = sweep(rows_of(name, stored), name, claim.metric)
    for system in systems:
        if system not in data.mean:
            raise NoDataError(f"stored table {name} has no runs of {system}")
    return data


def _load(data: Curves, system: str) -> tuple[float, float]:
    """Return the bounds of the load at 90 %: equal, or open where the sweep does not show it."""
    found = data.crossing(system)
    if found is None:
        return 0.0, float(data.curve(system).index[0])
    return found.x, math.inf if found.open_ended else found.x


def _text(low: float, high: float) -> str:
    if low == high:
        return f"{low:.3g}"
    if high == math.inf:
        return f"≥{low:.3g}" if low else "unknown"
    return f"{low:.3g} to {high:.3g}" if low else f"<{high:.3g}"


def _bounds(name: str, low: float, high: float) -> dict[str, float]:
    """Return a value by name, or the finite bounds of the value by name."""
    if low == high:
        return {name: low}
    return {f"{name}_min": low} | ({} if high == math.inf else {f"{name}_max": high})


KINDS = (Load, Placed, Ratio, Lead, Order)
