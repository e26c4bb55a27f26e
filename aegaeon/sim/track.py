"""What the simulator knows of one request."""

from __future__ import annotations

from aegaeon.core import Arrival, ModelCost
from aegaeon.policy.lifecycle import HELD
from aegaeon.runlog import RequestLog


class Track:
    """One request's progress, its place, and where its KV lies.

    `place` is an instance's id, HELD or GONE (policy.lifecycle). `on_device` and `loaded_at`
    describe KV on the instance that has the request; `host_at` is when a copy that leaves a device
    is complete in the host pool. Times are seconds.
    """

    __slots__ = (
        "cost",
        "decode_s",
        "failure",
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
        self.failure: str | None = None

    @property
    def context(self) -> int:
        """Tokens with keys and values, or about to have them: prompt and generated ones."""
        return self.request.input_tokens + self.generated

    @property
    def kv_bytes(self) -> int:
        """Bytes of the request's KV on one device."""
        return self.context * self.cost.kv_bytes_per_token

    def log(self) -> RequestLog:
        """Return the request's line of the run log; the simulator knows no control time."""
        return RequestLog(
            request=self.request,
            output_tokens=self.output_tokens,
            prefill_start=self.prefill_start,
            first_token=self.first_token,
            finish=self.finish,
            prefill_wait_s=self.prefill_start - self.request.arrival,
            prefill_s=self.prefill_s,
            decode_wait_s=(
                self.finish - self.prefill_start - self.prefill_s - self.decode_s - self.kv_wait_s
            ),
            decode_s=self.decode_s,
            control_s=0.0,
            data_s=self.kv_wait_s,
            failure=self.failure,
        )
