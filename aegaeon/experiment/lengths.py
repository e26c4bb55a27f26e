"""The true output lengths of requests, which only oracles are given."""

from __future__ import annotations

from collections.abc import Iterable

from aegaeon.core import Arrival
from aegaeon.policy.interface import System


def known_lengths(system: System, arrivals: Iterable[Arrival]) -> dict[int, int]:
    """Return `Deployment.lengths`: every request's output tokens for an oracle, else nothing."""
    return {a.request.id: a.output_tokens for a in arrivals} if system.oracle else {}
