"""Claims about how well the simulator predicts the live engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from aegaeon.claims.model import Claim, Evidence, Kind, NoDataError
from aegaeon.errors import UserError
from aegaeon.scoring.fidelity import fidelity


def error_of(claim: Claim, stored: Path) -> Evidence:
    """Return the simulated runs' error in `column`: an attribute of `Fidelity`."""
    (name,) = claim.tables
    try:
        found = fidelity(name, stored)
    except UserError as error:
        raise NoDataError(str(error)) from error
    errors = {key: float(value) for key, value in asdict(found).items()}
    value = errors[claim.column]
    shown = f"{100 * value:.1f} points" if claim.column == "attainment" else f"{value:.1%}"
    return Evidence(value, value, f"{shown} over {found.requests} requests", errors)


KINDS: Mapping[str, Kind] = {"fidelity": Kind(error_of, is_error=True)}
