"""Claims about the live engine's numbers, as its benchmark stored them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from aegaeon.claims.model import Claim, Evidence, Kind, NoDataError


def number(claim: Claim, stored: Path) -> Evidence:
    """Return the stored number called `column`, and the machine that it was measured on."""
    (name,) = claim.tables
    path = stored / f"{name}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        machine = content["machine"]
        values = {entry["name"]: entry for entry in content["numbers"]}
        cores, made = f"{machine['cores']} cores of {machine['cpu']}", content["made"][:10]
    except FileNotFoundError as error:
        raise NoDataError(f"{path}: not stored; make it with `make bench-live STORE=1`") from error
    except (ValueError, LookupError, TypeError) as error:
        raise NoDataError(f"{path}: damaged ({error!r}); `make bench-live STORE=1`") from error
    if claim.column not in values:
        raise NoDataError(f"{path}: has no number {claim.column!r}; `make bench-live STORE=1`")
    found = values[claim.column]
    value = float(found["value"])
    text = f"{value:.3g} {found['unit']}".strip()
    return Evidence(value, value, f"{text} ({cores}, {made})", {"value": value})


KINDS: Mapping[str, Kind] = {"bench": Kind(number)}
