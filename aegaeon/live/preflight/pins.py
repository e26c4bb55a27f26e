"""Versions that `pyproject.toml` and the lock files require, read by `packaging`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aegaeon.paths import DATA

PROJECT = DATA / "pyproject.toml"
LIVE = ("live", "live-cuda")


def required(extra: str, project: Path = PROJECT) -> list[Requirement]:
    """Return the requirements of an extra of `project`; none if that file is absent."""
    if not project.exists():
        return []
    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return [Requirement(text) for text in extras[extra]]


def locked(lock: Path) -> list[Requirement]:
    """Return a lock file's requirements for this platform and Python."""
    lines = [line.rstrip("\\ ") for line in lock.read_text(encoding="utf-8").splitlines()]
    # Other lines are comments, or options of the requirement above (`--hash`).
    found = [Requirement(line) for line in lines if line and line[0] not in " #-"]
    return [each for each in found if each.marker is None or each.marker.evaluate()]


def exact(requirements: Iterable[Requirement]) -> dict[str, str]:
    """Return the pinned versions (`==`) by normalized name."""
    found: dict[str, str] = {}
    for each in requirements:
        if [clause.operator for clause in each.specifier] == ["=="]:
            (clause,) = each.specifier
            found[canonicalize_name(each.name)] = clause.version
    return found
