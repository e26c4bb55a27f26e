"""A made-up file of the live engine's numbers, each exactly at its target."""

from __future__ import annotations

import json
from pathlib import Path

from aegaeon.claims import load_claims


def write_bench(stored: Path, **values: float) -> Path:
    """Write every number that a claim reads into `stored`; `values` replaces numbers by claim."""
    numbers = []
    for claim in load_claims():
        if claim.check == "bench":
            limit = claim.at_least if claim.at_most is None else claim.at_most
            value = values.get(claim.id, limit)
            numbers.append({"name": claim.column, "value": value, "unit": ""})
    machine = {"cpu": "made-up", "cores": 2}
    content = {"made": "2026-01-02T03:04:05+00:00", "machine": machine, "numbers": numbers}
    path = stored / "bench" / "live.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
