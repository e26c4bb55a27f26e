"""Claims about the paper's formulas: Theorem 3.1, and the quotas of equations 2 and 3."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from aegaeon.claims.attainment import rows_of
from aegaeon.claims.model import ErrorClaim, Evidence, NoDataError
from aegaeon.policy.quota import decode_quotas
from aegaeon.scoring.goodput import common


@dataclass(frozen=True, kw_only=True)
class Theorem(ErrorClaim):
    """The relative error of the simulated mean number of active models against Theorem 3.1.

    `service_s` is the mean service time of a request, in seconds.
    """

    check = "theorem"
    service_s: float

    def measure(self, stored: Path) -> Evidence:
        """Return the error of the mean over the runs; `NoDataError` if a run has no mean."""
        runs = rows_of(self.table, stored)
        if runs["mean_active_models"].isna().any():
            raise NoDataError(f"stored table {self.table} has runs without mean_active_models")
        models, rate = (
            float(common(runs, column, self.table)) for column in ("num_models", "rate_rps")
        )
        exact = -models * math.expm1(-rate * self.service_s)
        mean = float(runs["mean_active_models"].mean())
        error = abs(mean / exact - 1)
        numbers = {"mean": mean, "theorem": exact, "relative_error": error}
        return Evidence(error, error, f"{mean:.2f}, theorem {exact:.2f}: {error:.1%} off", numbers)


@dataclass(frozen=True, kw_only=True)
class QuotaEquations(ErrorClaim):
    """The largest error of equations 2 and 3, on the worked example and on the identities."""

    check = "quotas"

    def measure(self, stored: Path) -> Evidence:
        """Return the largest error; the equations need no stored table."""
        paper = decode_quotas([0.025] * 3, 3.0, 0.1, qmax_s=3.0)
        default = decode_quotas([0.025] * 3, 3.0, 0.1)
        errors = {
            "worked_example": max(abs(q - 3.0) for q in paper.quotas) + abs(paper.alpha - 1.0),
            "worked_round": abs(3.0 + sum(paper.quotas) - 12.0),
            "default_qmax": max(abs(q - 4.0) for q in default.quotas) + abs(default.alpha - 0.9375),
            **_identities((0.02, 0.03, 0.05)),
        }
        worst = max(errors.values())
        text = f"q = {paper.quotas[0]:.3g} s, largest error {worst:.0e}"
        return Evidence(worst, worst, text, errors)


def _identities(steps_s: tuple[float, ...]) -> dict[str, float]:
    """Return the errors of the identities for batches with steps of `steps_s` seconds."""
    mixed = decode_quotas(steps_s, 2.0, 0.1)
    turns = [0.1 / step * quota for step, quota in zip(steps_s, mixed.quotas, strict=True)]
    return {
        "equal_turns": max(turns) - min(turns),
        "round_is_alpha_turns": abs(2.0 + sum(mixed.quotas) - mixed.alpha * turns[0]),
        "slowest_gets_qmax": abs(max(mixed.quotas) - 4.0),
    }


KINDS = (Theorem, QuotaEquations)
