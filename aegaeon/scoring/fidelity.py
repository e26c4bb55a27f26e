"""How well the simulator predicts the live engine: stored rows of both, settings pairwise equal.

A request is the same in both runs when its model and arrival are: arrivals are continuous.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from aegaeon.errors import UserError
from aegaeon.results.details import with_rows
from aegaeon.results.store import load_own

SETTINGS = [
    *("system", "hardware", "gpus", "num_models", "rate_rps", "input_scale", "output_scale"),
    *("ttft_slo_s", "tbt_slo_s", "seed", "duration_s"),
]
MEASURES = ("ttft_s", "mean_tbt_s")
_REQUEST = ["model", "arrival_s", "output_tokens"]
_LIVE, _SIMULATED = "_live", "_simulated"


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The simulated runs' errors: relative ones as shares, attainment as a difference of shares.

    Attributes:
        ttft, tbt: medians over all requests of |predicted / measured - 1|.
        ttft_median, tbt_median: the largest relative error of a run's median.
        attainment: the largest absolute difference of a pair of runs.
        switches: the largest relative difference of a pair's counts.
    """

    requests: int
    ttft: float
    tbt: float
    ttft_median: float
    tbt_median: float
    attainment: float
    switches: float


def paired_runs(experiment: str, stored: Path) -> pd.DataFrame:
    """Return one row per setting with each measure's `_live` and `_simulated` value."""
    rows = load_own(experiment, stored)
    return _paired(rows, SETTINGS, experiment)


def paired_requests(experiment: str, stored: Path) -> pd.DataFrame:
    """Return one row per request that both runs of a setting served, with both runs' measures."""
    columns = [name for name in [*SETTINGS, "source"] if name != "seed"]
    lines = with_rows("requests", experiment, stored, columns)
    pairs = _paired(lines, [*SETTINGS, *_REQUEST], experiment)
    return pairs.dropna(subset=[m + side for m in MEASURES for side in (_LIVE, _SIMULATED)])


def relative_errors(pairs: pd.DataFrame, measure: str) -> pd.Series[float]:
    """Return predicted over measured, minus one; one-token requests have no time between tokens."""
    live, simulated = pairs[measure + _LIVE], pairs[measure + _SIMULATED]
    return (simulated / live - 1.0)[live > 0]


def fidelity(experiment: str, stored: Path) -> Fidelity:
    """Compare all pairs of an experiment; raise `UserError` if a source is missing."""
    runs, requests = paired_runs(experiment, stored), paired_requests(experiment, stored)
    medians = requests.groupby(SETTINGS)[[m + s for m in MEASURES for s in (_LIVE, _SIMULATED)]]
    typical = medians.median()
    ttft, tbt = (float(relative_errors(requests, m).abs().median()) for m in MEASURES)
    worst_ttft, worst_tbt = (float(relative_errors(typical, m).abs().max()) for m in MEASURES)
    points = np.abs(runs["slo_attainment_simulated"] - runs["slo_attainment_live"])
    changes = np.abs(runs["switches_simulated"] / runs["switches_live"].clip(lower=1) - 1.0)
    return Fidelity(
        requests=len(requests),
        ttft=ttft,
        tbt=tbt,
        ttft_median=worst_ttft,
        tbt_median=worst_tbt,
        attainment=float(points.max()),
        switches=float(changes.max()),
    )


def _paired(table: pd.DataFrame, keys: list[str], experiment: str) -> pd.DataFrame:
    """Join the two sources on `keys`; every row of each has its counterpart."""
    parts = {source: table[table["source"] == source] for source in ("live", "simulated")}
    for source, part in parts.items():
        if part.empty:
            raise UserError(
                f"stored table {experiment}: has no {source} run; run `aegaeon run "
                f"experiment={experiment}` where the live backend is installed, then export it"
            )
    joined = parts["live"].merge(
        parts["simulated"], on=keys, suffixes=(_LIVE, _SIMULATED), validate="one_to_one"
    )
    if len(joined) < max(len(part) for part in parts.values()):
        raise UserError(
            f"stored table {experiment}: live and simulated runs differ in settings or requests; "
            "run both with one configuration and export them with --replace"
        )
    return joined
