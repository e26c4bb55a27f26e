"""Claims about the simulator's error against the live engine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from aegaeon.claims.model import ErrorClaim, Evidence, NoDataError
from aegaeon.errors import UserError
from aegaeon.scoring.fidelity import fidelity


@dataclass(frozen=True, kw_only=True)
class FidelityClaim(ErrorClaim):
    """The error of the simulated runs in `column`, an attribute of `Fidelity`."""

    check = "fidelity"
    column: str

    def measure(self, stored: Path) -> Evidence:
        """Return the error: a share, or for attainment a difference of shares."""
        try:
            found = fidelity(self.table, stored)
        except UserError as error:
            raise NoDataError(str(error)) from error
        errors = {key: float(value) for key, value in asdict(found).items()}
        value = errors[self.column]
        shown = f"{100 * value:.1f} points" if self.column == "attainment" else f"{value:.1%}"
        return Evidence(value, value, f"{shown} over {found.requests} requests", errors)


KINDS = (FidelityClaim,)
