"""The paper's claims, judged on the stored tables."""

from aegaeon.claims.model import Claim, Verdict, load_claims
from aegaeon.claims.report import print_table, write_json
from aegaeon.claims.verdicts import check

__all__ = ["Claim", "Verdict", "check", "load_claims", "print_table", "write_json"]
