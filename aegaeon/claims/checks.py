"""Kinds of claims about rows. Values that a sweep only bounds are kept as intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pandas as pd

from aegaeon.claims.model import Claim, Evidence, Kind, NoDataError
from aegaeon.errors import UserError
from aegaeon.policy.quota import decode_quotas
from aegaeon.results.store import load_stored
from aegaeon.scoring.goodput import Curves, common, sweep


def _table(name: str, stored: Path) -> pd.DataFrame:
    try:
        return load_stored(name, stored)
    except UserError as error:
        raise NoDataError(str(error)) from error


def _sweep(claim: Claim, name: str, stored: Path, *systems: str) -> Curves:
    data = sweep(_table(name, stored), name, claim.metric)
    for system in systems:
        if system not in data.mean:
            raise NoDataError(f"stored table {name} has no runs of {system}")
    return data


def _load(data: Curves, system: str) -> tuple[float, float]:
    """Return bounds of the load at 90 %: equal, or open where the sweep does not show it."""
    found = data.crossing(system)
    if found is None:
        return 0.0, float(data.mean.index[0])
    return found.x, math.inf if found.open_ended else found.x


def _text(low: float, high: float) -> str:
    if low == high:
        return f"{low:.3g}"
    if high == math.inf:
        return f"≥{low:.3g}" if low else "unknown"
    return f"{low:.3g} to {high:.3g}" if low else f"<{high:.3g}"


def theorem(claim: Claim, stored: Path) -> Evidence:
    """Compare the simulated mean number of active models with Theorem 3.1 (relative error)."""
    (name,) = claim.tables
    runs = _table(name, stored)
    if runs["mean_active_models"].isna().any():
        raise NoDataError(f"stored table {name} has runs without mean_active_models")
    models, rate = (float(common(runs, column, name)) for column in ("num_models", "rate_rps"))
    exact = -models * math.expm1(-rate * claim.service_s)
    mean = float(runs["mean_active_models"].mean())
    error = abs(mean / exact - 1)
    numbers = {"mean": mean, "theorem": exact, "relative_error": error}
    return Evidence(error, error, f"{mean:.2f}, theorem {exact:.2f}: {error:.1%} off", numbers)


def quotas(claim: Claim, stored: Path) -> Evidence:
    """Check equations 2 and 3 on the worked example and its identities (largest error)."""
    del claim, stored
    paper = decode_quotas([0.025] * 3, 3.0, 0.1, qmax_s=3.0)
    default = decode_quotas([0.025] * 3, 3.0, 0.1)
    mixed_steps = (0.02, 0.03, 0.05)
    mixed = decode_quotas(mixed_steps, 2.0, 0.1)
    turns = [0.1 / step * quota for step, quota in zip(mixed_steps, mixed.quotas, strict=True)]
    errors = {
        "worked_example": max(abs(q - 3.0) for q in paper.quotas) + abs(paper.alpha - 1.0),
        "worked_round": abs(3.0 + sum(paper.quotas) - 12.0),
        "default_qmax": max(abs(q - 4.0) for q in default.quotas) + abs(default.alpha - 0.9375),
        "equal_turns": max(turns) - min(turns),
        "round_is_alpha_turns": abs(2.0 + sum(mixed.quotas) - mixed.alpha * turns[0]),
        "slowest_gets_qmax": abs(max(mixed.quotas) - 4.0),
    }
    worst = max(errors.values())
    return Evidence(worst, worst, f"q = {paper.quotas[0]:.3g} s, largest error {worst:.0e}", errors)


def load(claim: Claim, stored: Path) -> Evidence:
    """Return the load of `system` at 90 % attainment."""
    (name,) = claim.tables
    low, high = _load(_sweep(claim, name, stored, claim.system), claim.system)
    return Evidence(low, high, _text(low, high), _bounds(claim.system, low, high))


def placed(claim: Claim, stored: Path) -> Evidence:
    """Return the largest load at which `system` refuses or drops no request, in any seed."""
    (name,) = claim.tables
    table = _table(name, stored)
    data = sweep(table, name)
    failed = table[table["system"] == claim.system].groupby(data.axis)["failed"].max()
    if failed.empty:
        raise NoDataError(f"stored table {name} has no runs of {claim.system}")
    kept = failed[failed == 0].index
    low = float(kept.max()) if len(kept) else 0.0
    high = math.inf if low == float(data.mean.index[-1]) else low
    return Evidence(low, high, _text(low, high), _bounds(claim.system, low, high))


def ratio(claim: Claim, stored: Path) -> Evidence:
    """Return the load of `system` at 90 % over that of `over`; of several tables the best."""
    found = [_ratio(claim, name, stored) for name in claim.tables]
    return max(found, key=lambda finding: finding.low)


def _ratio(claim: Claim, name: str, stored: Path) -> Evidence:
    data = _sweep(claim, name, stored, claim.system, claim.over)
    (low, high), (other_low, other_high) = (_load(data, s) for s in (claim.system, claim.over))
    least = low / other_high
    most = high / other_low if other_low else math.inf
    text = f"{_text(low, high)} / {_text(other_low, other_high)} = {_text(least, most)}×"
    numbers = _bounds(claim.system, low, high) | _bounds(claim.over, other_low, other_high)
    where = f" ({name})" if len(claim.tables) > 1 else ""
    return Evidence(least, most, text + where, numbers | _bounds("ratio", least, most))


def lead(claim: Claim, stored: Path) -> Evidence:
    """Return the mean difference of attainment, `system` less `over`, over shared loads."""
    (name,) = claim.tables
    data = _sweep(claim, name, stored, claim.system, claim.over)
    both = data.mean[[claim.system, claim.over]].dropna()
    both = both[both.index <= (claim.up_to or math.inf)]
    if both.empty:
        raise NoDataError(f"stored table {name}: no load shared by {claim.system}, {claim.over}")
    means = both.mean()
    gap = float(means[claim.system] - means[claim.over])
    numbers = {system: float(means[system]) for system in (claim.system, claim.over)}
    text = f"{numbers[claim.system]:.1%} − {numbers[claim.over]:.1%} = {100 * gap:+.1f} points"
    return Evidence(gap, gap, text, numbers | {"lead": gap})


def _bounds(name: str, low: float, high: float) -> dict[str, float]:
    """Name a value, or the finite bounds of one."""
    if low == high:
        return {name: low}
    return {f"{name}_min": low} | ({} if high == math.inf else {f"{name}_max": high})


def order(claim: Claim, stored: Path) -> Evidence:
    """Return the smallest gap of attainment between neighbouring values of the row's `column`.

    Larger targets are easier: a gap is the easier curve's mean less the harder one's.
    """
    (name,) = claim.tables
    table = _table(name, stored)
    levels = sorted(table[claim.column].unique())
    means = [float(table.loc[table[claim.column] == at, claim.metric].mean()) for at in levels]
    if len(means) < 2:
        raise NoDataError(f"stored table {name} has one value of {claim.column} only")
    gap = min(easy - hard for hard, easy in pairwise(means))
    text = " < ".join(f"{mean:.1%}" for mean in means)
    numbers = {f"{claim.column}={at:g}": mean for at, mean in zip(levels, means, strict=True)}
    return Evidence(gap, gap, f"{text}: {100 * gap:+.1f} points", numbers | {"gap": gap})


def points(share: float) -> str:
    """Write a difference of shares."""
    return f"{100 * share:g} points"


KINDS: Mapping[str, Kind] = {
    "theorem": Kind(theorem, is_error=True),
    "quotas": Kind(quotas, is_error=True),
    "load": Kind(load, of_attainment=True),
    "placed": Kind(placed),
    "ratio": Kind(ratio, "{:g}×".format, of_attainment=True),
    "lead": Kind(lead, points, of_attainment=True),
    "order": Kind(order, points, of_attainment=True),
}
