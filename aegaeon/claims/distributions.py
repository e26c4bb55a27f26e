"""Claims about detail tables: switches, waits, the host KV pool, stages of a switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from aegaeon.claims.model import BoundClaim, Evidence, NoDataError, percent
from aegaeon.errors import UserError
from aegaeon.results.details import with_rows
from aegaeon.scoring.goodput import fragmentation

_OF_ROWS = ("system", "num_models", "rate_rps")


@dataclass(frozen=True, kw_only=True)
class DetailClaim(BoundClaim):
    """A claim about lines of the detail table `detail`.

    `system` chooses the lines of one system, "" of all. `where` maps a column to the value that a
    chosen line must have.
    """

    detail: str
    system: str = ""
    where: Mapping[str, str | float] = field(default_factory=dict)

    def lines(self, stored: Path) -> pd.DataFrame:
        """Return the chosen lines of all tables; `NoDataError` if there are none."""
        frames = []
        for name in self.tables:
            try:
                frames.append(with_rows(self.detail, name, stored, _OF_ROWS))
            except UserError as error:
                raise NoDataError(str(error)) from error
        found = pd.concat(frames)
        for column, value in {"system": self.system, **self.where}.items():
            found = found[found[column] == value] if value != "" else found
        if found.empty:
            raise NoDataError(f"table {self.detail} of {', '.join(self.tables)} has no such lines")
        return found


@dataclass(frozen=True, kw_only=True)
class Share(DetailClaim):
    """The share of lines with a true `column`, or with a number less than `below` there."""

    check = "share"
    column: str
    below: float = 0.0

    def show(self, value: float) -> str:
        """Return a share in percent."""
        return percent(value)

    def measure(self, stored: Path) -> Evidence:
        """Return the share of the lines that have a value."""
        values = self.lines(stored)[self.column].dropna()
        found = float((values if values.dtype == bool else values < self.below).mean())
        text = f"{found:.1%} of {len(values):,}"
        return Evidence(found, found, text, {"share": found, "lines": len(values)})


@dataclass(frozen=True, kw_only=True)
class Largest(DetailClaim):
    """The largest value of `column`, in seconds."""

    check = "largest"
    column: str

    def show(self, value: float) -> str:
        """Return seconds."""
        return f"{value:g} s"

    def measure(self, stored: Path) -> Evidence:
        """Return the largest value, with the median and the 99th percentile."""
        values = self.lines(stored)[self.column].dropna()
        top, usual, over = (float(values.quantile(q)) for q in (1.0, 0.5, 0.99))
        text = f"{top:.3g} s (median {usual:.2g}, 99 % {over:.2g}, of {len(values):,})"
        if len(values) == 1:
            text = f"{top:.3g} s"
        return Evidence(top, top, text, {"largest": top, "median": usual, "p99": over})


@dataclass(frozen=True, kw_only=True)
class Fragmentation(DetailClaim):
    """The fragmentation of the host KV pool at its peak, in the worst run (docs/metrics.md)."""

    check = "fragmentation"

    def show(self, value: float) -> str:
        """Return a share in percent."""
        return percent(value)

    def measure(self, stored: Path) -> Evidence:
        """Return the unused share of the allocated bytes."""
        runs = self.lines(stored).groupby("config_hash")
        found = [fragmentation(run) for _, run in runs]
        worst = max(found, key=lambda use: use.share)
        text = f"{worst.share:.1%} of {worst.allocated / 2**30:.0f} GiB"
        numbers = {"share": worst.share, "used": worst.used, "allocated": worst.allocated}
        return Evidence(worst.share, worst.share, text, numbers)


@dataclass(frozen=True, kw_only=True)
class Saving(DetailClaim):
    """The share of the seconds of stage `over` that the stage in `where` saves."""

    check = "saving"
    over: str

    def show(self, value: float) -> str:
        """Return a share in percent."""
        return percent(value)

    def measure(self, stored: Path) -> Evidence:
        """Return the saving of the worst model; `NoDataError` if a stage is missing."""
        stages = replace(self, where={}).lines(stored)
        chosen = str(self.where["stage"])
        if not {chosen, self.over} <= set(stages["stage"]):
            raise NoDataError(f"table {self.detail}: no stages {chosen!r} and {self.over!r}")
        seconds = stages.pivot_table("seconds", "model", "stage", aggfunc="median").astype(float)
        found = []
        for before, after in zip(seconds[self.over], seconds[chosen], strict=True):
            text = f"{1 - after / before:.1%}: {after:.3g} s instead of {before:.3g} s"
            found.append((1 - after / before, text))
        saved, text = min(found)
        return Evidence(saved, saved, text, {"saving": saved})


KINDS = (Share, Largest, Fragmentation, Saving)
