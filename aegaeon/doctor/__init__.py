"""`aegaeon doctor`: properties of this machine and environment that affect results, with advice."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from aegaeon.console import wide_console
from aegaeon.doctor.checks import MACHINE
from aegaeon.doctor.facts import Facts, Finding, Status
from aegaeon.doctor.software import SOFTWARE
from aegaeon.live.memory.cleanup import remove_leftovers

_STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.PROBLEM: "bold red"}


def examine(facts: Facts) -> list[Finding]:
    """Return the findings of all checks, software first."""
    return [check(facts) for check in (*SOFTWARE, *MACHINE)]


def doctor(as_json: bool = False, clean: bool = False) -> int:
    """Print the findings of all checks; return 1 if there is a problem, else 0.

    Warnings alone give 0. `clean` removes the shared memory of crashed runs first. `as_json` prints
    JSON instead of a table.
    """
    from aegaeon.doctor.probe import probe

    console = wide_console()
    if clean:
        gone = remove_leftovers()
        size = sum([leftover.nbytes for leftover in gone]) / 2**20
        Console(stderr=True).print(f"{len(gone)} stale directories removed, {size:.0f} MiB")
    findings = examine(probe())
    if as_json:
        console.print_json(json.dumps([asdict(finding) for finding in findings]))
    else:
        console.print(_table(findings))
    return int(any(finding.status is Status.PROBLEM for finding in findings))


def _table(findings: list[Finding]) -> Table:
    counts = [f"{sum(f.status is s for f in findings)} {s}" for s in Status]
    table = Table(caption=", ".join(counts), show_lines=True)
    for heading in ("check", "status", "found", "expected; what to do", "affects"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        wanted = finding.expected
        if finding.status is not Status.OK:
            wanted += f"; {finding.advice}"
        status = f"[{_STYLES[finding.status]}]{finding.status}[/]"
        table.add_row(finding.check, status, finding.found, wanted, finding.affects)
    return table
