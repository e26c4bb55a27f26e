"""Measured numbers with targets, and how they are shown and stored."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from aegaeon.console import wide_console
from aegaeon.files import write_text
from aegaeon.live.preflight.fingerprint import fingerprint
from aegaeon.results import provenance

_Taken = TypeVar("_Taken")


@dataclass(frozen=True, slots=True)
class Number:
    """A measured `value` in `unit` (empty: a ratio); `at_most` or `at_least` is the target, if any.

    `details` describes the measured objects.
    """

    name: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    details: str = ""

    @property
    def target(self) -> str:
        """The target in words; a dash if the number is only reported."""
        if self.at_most is not None:
            return f"≤ {self.at_most:g} {self.unit}".strip()
        return "–" if self.at_least is None else f"≥ {self.at_least:g} {self.unit}".strip()

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without a target."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least


def in_turns(ways: Mapping[str, Callable[[], _Taken]], rounds: int) -> dict[str, list[_Taken]]:
    """Return the results of each way in `rounds` rounds, after one round to warm up.

    The first way of a round finds colder caches, so the order rotates.
    """
    names = list(ways)
    taken: dict[str, list[_Taken]] = {name: [] for name in names}
    for index in range(rounds + 1):
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            value = ways[name]()
            if index:
                taken[name].append(value)
    return taken


def machine() -> dict[str, object]:
    """Return the machine, its load and the installed versions, on which the numbers depend."""
    return {
        **provenance.machine(),
        "load": round(os.getloadavg()[0], 1),
        "omp_threads": os.environ.get("OMP_NUM_THREADS", ""),
        **fingerprint(),
    }


def show(numbers: Sequence[Number], title: str) -> None:
    """Print a line per number."""
    table = Table(title=title)
    for heading in ("number", "target", "measured", "reached", "on"):
        table.add_column(heading)
    for number in numbers:
        verdict = {True: "[green]yes[/]", False: "[bold red]no[/]", None: "–"}[number.reached]
        value = f"{number.value:.3g} {number.unit}".strip()
        table.add_row(number.name, number.target, value, verdict, number.details)
    wide_console().print(table)


def store(numbers: Sequence[Number], rounds: int, path: Path) -> None:
    """Write the numbers, the commit and the machine as JSON, in one step."""
    content = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_sha": provenance.git_state().label,
        "machine": machine(),
        "rounds": rounds,
        "numbers": [asdict(n) | {"target": n.target, "reached": n.reached} for n in numbers],
    }
    write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", path)
