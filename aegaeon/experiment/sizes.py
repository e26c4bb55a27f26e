"""Requests that fit no instance are refused before any work."""

from __future__ import annotations

from collections.abc import Sequence

from aegaeon.core import Arrival, CostModel, Fleet
from aegaeon.errors import UserError


def check_sizes(arrivals: Sequence[Arrival], fleet: Fleet, costs: CostModel) -> None:
    """Raise `UserError` for a request whose KV alone exceeds an instance's room."""
    room = min(spec.kv_bytes for spec in fleet)
    for arrival in arrivals:
        request = arrival.request
        tokens = request.input_tokens + arrival.output_tokens + 1
        need = tokens * costs[request.model].kv_bytes_per_token
        if need > room:
            raise UserError(
                f"workload: request {request.id} for {request.model} needs {need / 1e9:.1f} GB of "
                f"KV for its {tokens} tokens, and an instance has room for {room / 1e9:.1f} GB; "
                "lower workload.input_scale or output_scale, or choose a larger GPU"
            )
