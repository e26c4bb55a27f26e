"""Verdicts: every claim judged on the stored tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aegaeon.claims.attainment import part_of_sweep
from aegaeon.claims.kinds import load_claims
from aegaeon.claims.model import (
    AttainmentClaim,
    Claim,
    Decision,
    Evidence,
    NoDataError,
    Verdict,
)

MAIN = "main"
ARTIFACT_METRIC = "artifact_qos"
_NO_DATA: Decision = "NO DATA"


def check(stored: Path) -> list[Verdict]:
    """Judge every claim on the stored tables.

    Next to a claim's verdict come the verdicts for its presets, if the presets' runs are stored.
    A claim about attainment is judged a second time by the public artifact's own metric. A claim
    is NO DATA if tables or runs are missing, or if the sweep ends before the value is known.
    Raises `UserError` when a table mixes sources or hardware.
    """
    verdicts: list[Verdict] = []
    for claim in load_claims():
        verdicts.append(judge(claim, stored))
        for preset in claim.presets:
            row = judge(claim.about(preset), stored, " + ".join(preset.values()))
            if row.numbers:
                verdicts.append(row)
        if isinstance(claim, AttainmentClaim):
            row = judge(replace(claim, metric=ARTIFACT_METRIC), stored, ARTIFACT_METRIC)
            verdicts += [row] if row.numbers else []
    return verdicts


def judge(claim: Claim, stored: Path, setting: str = MAIN) -> Verdict:
    """Return the verdict on one claim; `setting` names the variant of the claim."""
    try:
        finding = claim.measure(stored)
    except NoDataError as error:
        finding, verdict, reason = Evidence(0.0, 0.0, "–"), _NO_DATA, str(error)
    else:
        verdict, reason = _decide(claim, finding)
        reason = "; ".join(filter(None, (part_of_sweep(claim, stored), reason)))
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


def _decide(claim: Claim, finding: Evidence) -> tuple[Decision, str]:
    least, most = claim.limits()
    if least <= finding.low and finding.high <= most:
        return "PASS", claim.note
    if finding.high < least or finding.low > most:
        return "MISS", claim.miss_reason or claim.note
    return _NO_DATA, "the sweep ends before the value is known; extend its loads"


def _expected(claim: Claim) -> str:
    """Return the accepted limit, and the paper's value if the paper states one."""
    accepted = claim.accepted()
    return accepted if claim.paper is None else f"{accepted} (paper {claim.show(claim.paper)})"
