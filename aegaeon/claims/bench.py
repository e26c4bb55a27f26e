"""Claims about the live engine's numbers, as the benchmark of the live engine stored them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from aegaeon.claims.model import BoundClaim, Evidence, NoDataError
from aegaeon.paths import folder_with


@dataclass(frozen=True, kw_only=True)
class BenchClaim(BoundClaim):
    """The stored number of the name `column`."""

    check = "bench"
    column: str

    def measure(self, stored: Path) -> Evidence:
        """Return the number and the machine of the measurement.

        Raises `NoDataError` if the file is missing or damaged, or lacks the number.
        """
        file = f"{self.table}.json"
        path = folder_with(file, stored) / file
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            machine = content["machine"]
            values = {entry["name"]: entry for entry in content["numbers"]}
            cores, made = f"{machine['cores']} cores of {machine['cpu']}", content["made"][:10]
        except FileNotFoundError as error:
            raise NoDataError(
                f"{path}: not stored; make it with `make bench-live STORE=1`"
            ) from error
        except (ValueError, LookupError, TypeError) as error:
            raise NoDataError(f"{path}: damaged ({error!r}); `make bench-live STORE=1`") from error
        if self.column not in values:
            raise NoDataError(f"{path}: has no number {self.column!r}; `make bench-live STORE=1`")
        found = values[self.column]
        value = float(found["value"])
        text = f"{value:.3g} {found['unit']}".strip()
        return Evidence(value, value, f"{text} ({cores}, {made})", {"value": value})


KINDS = (BenchClaim,)
