"""From claims and stored tables to verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from aegaeon.claims.kinds import KINDS
from aegaeon.claims.model import Claim, Evidence, NoDataError, Outcome, Verdict, load_claims

MAIN = "main"
ARTIFACT_METRIC = "artifact_qos"
_NO_DATA: Outcome = "NO DATA"


def check(stored: Path) -> list[Verdict]:
    """Judge every claim on the stored tables, each followed by its presets' rows where stored.

    Claims about attainment are judged a second time by the public artifact's own metric.

    A claim whose tables or runs are missing, or whose sweep ends before it can be decided, is
    NO DATA. Raises UserError when a table mixes sources or hardware.
    """
    verdicts: list[Verdict] = []
    for claim in load_claims():
        verdicts.append(judge(claim, stored))
        for preset in claim.presets:
            row = judge(_with_preset(claim, preset), stored, " + ".join(preset.values()))
            if row.numbers:
                verdicts.append(row)
        if KINDS[claim.check].of_attainment:
            row = judge(replace(claim, metric=ARTIFACT_METRIC), stored, ARTIFACT_METRIC)
            verdicts += [row] if row.numbers else []
    return verdicts


def judge(claim: Claim, stored: Path, setting: str = MAIN) -> Verdict:
    """Judge one claim."""
    try:
        finding = KINDS[claim.check].measure(claim, stored)
    except NoDataError as error:
        finding, verdict, reason = Evidence(0.0, 0.0, "–"), _NO_DATA, str(error)
    else:
        verdict, reason = _decide(claim, finding)
    return Verdict(
        id=claim.id,
        section=claim.section,
        claim=claim.claim,
        tables=claim.tables,
        setting=setting,
        expected=_expected(claim),
        ours=finding.ours,
        numbers=finding.numbers,
        verdict=verdict,
        reason=reason,
    )


def _decide(claim: Claim, finding: Evidence) -> tuple[Outcome, str]:
    least, most = _limits(claim)
    if least <= finding.low and finding.high <= most:
        return "PASS", claim.note
    if finding.high < least or finding.low > most:
        return "MISS", claim.miss_reason or claim.note
    return _NO_DATA, "the sweep ends before the value is known; extend its loads"


def _limits(claim: Claim) -> tuple[float, float]:
    if KINDS[claim.check].is_error:
        return 0.0, claim.tolerance
    least = float("-inf") if claim.at_least is None else claim.at_least
    return least, float("inf") if claim.at_most is None else claim.at_most


def _expected(claim: Claim) -> str:
    """Write what the paper states and what we accept."""
    kind = KINDS[claim.check]
    if kind.is_error:
        exact = claim.tolerance < 1e-3
        accepted = f"error ≤ {claim.tolerance:{'g' if exact else '.0%'}}"
    else:
        sign, limit = ("≥", claim.at_least) if claim.at_least is not None else ("≤", claim.at_most)
        accepted = f"{sign} {kind.show(limit or 0.0)}"
    return accepted if claim.paper is None else f"{accepted} (paper {kind.show(claim.paper)})"


def _with_preset(claim: Claim, preset: Mapping[str, str]) -> Claim:
    system, over = (preset.get(name, name) for name in (claim.system, claim.over))
    return replace(claim, system=system, over=over)
