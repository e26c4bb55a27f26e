"""The code that made a run: digests of source files, by the part that they play."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from aegaeon.paths import ROOT

# What shapes a result, by part; the fits of profiles/ count as the code does.
PARTS: Mapping[str, tuple[str, ...]] = {
    "policies": ("aegaeon/core", "aegaeon/policy", "baselines"),
    "simulator": ("aegaeon/sim", "aegaeon/kv_ledger.py", "aegaeon/runlog.py"),
    "scoring": ("aegaeon/scoring/score.py", "aegaeon/scoring/tables.py"),
    "inputs": ("workloads", "profiles", "aegaeon/experiment/plan.py"),
    "live engine": ("aegaeon/live", "kernels"),
}
_SOURCES = (".py", ".json", ".yaml", ".csv")
_SIMULATED = ("policies", "simulator", "scoring", "inputs")


@cache
def code_digests(root: Path = ROOT) -> Mapping[str, str]:
    """Return the digest of each part of this program."""
    return {part: source_digest([root / name for name in names]) for part, names in PARTS.items()}


def source_digest(places: Iterable[Path]) -> str:
    """Return `sha256:` and the digest of source files and of those below folders, with names."""
    digest = hashlib.sha256()
    for place in places:
        below = place.rglob("*") if place.is_dir() else [place]
        files = {path.relative_to(place.parent).as_posix(): path for path in below if _counts(path)}
        for name in sorted(files):
            digest.update(f"{name}\0".encode() + files[name].read_bytes() + b"\0")
    return f"sha256:{digest.hexdigest()}"


def changed_code(facts: Mapping[str, Any]) -> list[str]:
    """Return the parts of this program that differ from those that made a run.

    `facts` is the run's `run.json`. An older record without digests tells nothing.
    """
    row, made = facts["row"] or {}, facts.get("code", {})
    parts = _SIMULATED if row.get("source") == "simulated" else tuple(PARTS)
    now = code_digests()
    return [part for part in parts if part in made and made[part] != now[part]]


def _counts(path: Path) -> bool:
    return path.is_file() and path.suffix in _SOURCES
