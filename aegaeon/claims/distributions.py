"""Kinds of claims about the tables beside the rows: switches, waits, the host pool, stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from aegaeon.claims.model import Claim, Evidence, Kind, NoDataError
from aegaeon.errors import UserError
from aegaeon.results.details import with_rows
from aegaeon.scoring.goodput import fragmentation

_OF_ROWS = ("system", "num_models", "rate_rps")


def lines(claim: Claim, stored: Path) -> pd.DataFrame:
    """Return the claim's lines of all its tables: its system's, with the values of `where`."""
    frames = []
    for name in claim.tables:
        try:
            frames.append(with_rows(claim.detail, name, stored, _OF_ROWS))
        except UserError as error:
            raise NoDataError(str(error)) from error
    found = pd.concat(frames)
    for column, value in {"system": claim.system, **claim.where}.items():
        found = found[found[column] == value] if value != "" else found
    if found.empty:
        raise NoDataError(f"table {claim.detail} of {', '.join(claim.tables)} has no such lines")
    return found


def share(claim: Claim, stored: Path) -> Evidence:
    """Return the share of lines whose `column` is true or, if it is a number, less than `below`."""
    values = lines(claim, stored)[claim.column].dropna()
    found = float((values if values.dtype == bool else values < claim.below).mean())
    text = f"{found:.1%} of {len(values):,}"
    return Evidence(found, found, text, {"share": found, "lines": len(values)})


def largest(claim: Claim, stored: Path) -> Evidence:
    """Return the largest value of `column`."""
    values = lines(claim, stored)[claim.column].dropna()
    top, usual, over = (float(values.quantile(q)) for q in (1.0, 0.5, 0.99))
    text = f"{top:.3g} s (median {usual:.2g}, 99 % {over:.2g}, of {len(values):,})"
    if len(values) == 1:
        text = f"{top:.3g} s"
    return Evidence(top, top, text, {"largest": top, "median": usual, "p99": over})


def fragmented(claim: Claim, stored: Path) -> Evidence:
    """Return the pool's fragmentation at its peak, in the worst run (docs/metrics.md)."""
    runs = lines(claim, stored).groupby("config_hash")
    found = [fragmentation(run) for _, run in runs]
    worst = max(found, key=lambda use: use.share)
    text = f"{worst.share:.1%} of {worst.allocated / 2**30:.0f} GiB"
    numbers = {"share": worst.share, "used": worst.used, "allocated": worst.allocated}
    return Evidence(worst.share, worst.share, text, numbers)


def saving(claim: Claim, stored: Path) -> Evidence:
    """Return what the stage of `where` saves of stage `over`, as a share, for the worst model."""
    stages = lines(replace(claim, where={}), stored)
    chosen = str(claim.where["stage"])
    if not {chosen, claim.over} <= set(stages["stage"]):
        raise NoDataError(f"table {claim.detail}: no stages {chosen!r} and {claim.over!r}")
    seconds = stages.pivot_table("seconds", "model", "stage", aggfunc="median").astype(float)
    found = []
    for before, after in zip(seconds[claim.over], seconds[chosen], strict=True):
        text = f"{1 - after / before:.1%}: {after:.3g} s instead of {before:.3g} s"
        found.append((1 - after / before, text))
    saved, text = min(found)
    return Evidence(saved, saved, text, {"saving": saved})


def percent(value: float) -> str:
    """Write a share."""
    return f"{100 * value:g} %"


KINDS: Mapping[str, Kind] = {
    "share": Kind(share, percent),
    "largest": Kind(largest, "{:g} s".format),
    "fragmentation": Kind(fragmented, percent),
    "saving": Kind(saving, percent),
}
