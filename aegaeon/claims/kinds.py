"""Every kind of claim by the name that `claims.yaml` uses, and the claims of that file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from aegaeon.claims import attainment, bench, distributions, fidelity, theory
from aegaeon.claims.model import Claim
from aegaeon.errors import UserError

FILE = Path(__file__).with_name("claims.yaml")
MODULES = (theory, attainment, distributions, fidelity, bench)
KINDS: Mapping[str, type[Claim]] = {kind.check: kind for module in MODULES for kind in module.KINDS}


def load_claims(path: Path = FILE) -> list[Claim]:
    """Read the claims; `UserError` for an unknown check, or an unknown or missing field."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [_claim(entry, position, path) for position, entry in enumerate(entries)]


def _claim(entry: Mapping[str, object], position: int, path: Path) -> Claim:
    given = dict(entry)
    name, check = given.get("id", f"entry {position}"), given.pop("check", None)
    if check not in KINDS:
        raise UserError(f"{path}: claim {name}: check {check!r}; expected {', '.join(KINDS)}")
    try:
        return KINDS[str(check)](**given)  # type: ignore[arg-type]
    except TypeError as error:
        raise UserError(f"{path}: claim {name}: {error}; see the head of the file") from error
