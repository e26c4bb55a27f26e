"""A workload as flat rows, for comparisons in tests."""

from collections.abc import Iterable
from typing import NamedTuple

from aegaeon.core import Arrival


class Row(NamedTuple):
    id: int
    model: str
    arrival: float
    input_tokens: int
    output_tokens: int


def rows(arrivals: Iterable[Arrival]) -> list[Row]:
    """Return one row per arrival, in order."""
    found = []
    for a in arrivals:
        r = a.request
        found.append(Row(r.id, r.model, r.arrival, r.input_tokens, a.output_tokens))
    return found
