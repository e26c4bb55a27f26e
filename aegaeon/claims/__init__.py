"""The paper's claims, judged on the stored tables."""

from aegaeon.claims.kinds import load_claims
from aegaeon.claims.model import Claim, Verdict
from aegaeon.claims.report import markdown, print_table, write_json, write_markdown
from aegaeon.claims.verdicts import check

__all__ = [
    "Claim",
    "Verdict",
    "check",
    "load_claims",
    "markdown",
    "print_table",
    "write_json",
    "write_markdown",
]
