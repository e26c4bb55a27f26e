"""What the simulator knows of one request while it lives."""

from __future__ import annotations

from aegaeon.core import Arrival, ModelCost

HELD = -1
GONE = -2


class ConservationError(AssertionError):
    """The simulation lost or doubled a request, a token or a byte: a bug, never a user's fault."""


class Track:
    """One request's progress, its place, and where its KV lies.

    `place` is an instance's id, HELD by the dispatcher, or GONE (finished or failed). `on_device`
    and `loaded_at` describe KV on the instance that holds the request; `host_at` is when a copy
    leaving a device is complete in the host pool.
    """

    __slots__ = (
        "cost",
        "decode_s",
        "failed",
        "finish",
        "first_token",
        "generated",
        "host_at",
        "kv_wait_s",
        "last_run",
        "loaded_at",
        "on_device",
        "output_tokens",
        "place",
        "prefill_s",
        "prefill_start",
        "request",
    )

    def __init__(self, arrival: Arrival, cost: ModelCost) -> None:
        self.request = arrival.request
        self.output_tokens = arrival.output_tokens
        self.cost = cost
        self.place = HELD
        self.generated = 0
        self.on_device = False
        self.loaded_at = 0.0
        self.host_at = 0.0
        self.last_run = 0
        self.prefill_start = float("nan")
        self.prefill_s = 0.0
        self.first_token = float("nan")
        self.finish = float("nan")
        self.decode_s = 0.0
        self.kv_wait_s = 0.0
        self.failed = False

    @property
    def context(self) -> int:
        """Tokens whose keys and values exist or are about to: prompt and generated ones."""
        return self.request.input_tokens + self.generated

    @property
    def kv_bytes(self) -> int:
        """Bytes of the request's KV on one device."""
        return self.context * self.cost.kv_bytes_per_token

    def move(self, origin: int, destination: int) -> None:
        """Change place, once and only from where the request is."""
        if self.place != origin:
            raise ConservationError(
                f"request {self.request.id} is at {self.place}, not at {origin}"
            )
        self.place = destination
