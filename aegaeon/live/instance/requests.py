"""The unfinished requests of an instance: taken into engines, reported as events, handed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aegaeon.core import Request
from aegaeon.errors import UserError
from aegaeon.live.events import Failed, Finished, LiveRequest, Prefilled, TokenOutput, Tokens
from aegaeon.live.instance.device_pool import DevicePool
from aegaeon.live.instance.meter import WorkMeter
from aegaeon.live.instance.outbox import Outbox
from aegaeon.live.memory.kv_pool import in_flight

if TYPE_CHECKING:
    from aegaeon.live.vllm.model_engine import ModelEngine, Step


class UnfinishedRequests:
    """Requests by id, each in the engine of its model, from `add` until an event ends it here."""

    def __init__(
        self,
        pool: DevicePool,
        engines: Mapping[str, ModelEngine],
        outbox: Outbox,
        meter: WorkMeter,
        clock: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._engines = engines
        self._outbox = outbox
        self._meter = meter
        self._clock = clock
        self._requests: dict[int, LiveRequest] = {}

    def __contains__(self, ident: int) -> bool:
        return ident in self._requests

    def add(self, request: LiveRequest, prefill_only: bool) -> bool:
        """Give a request to its engine; False, with a `Failed` event, if that cannot serve it.

        With `prefill_only` the request gets one token here and goes on elsewhere.
        """
        if request.kv is not None:
            self._pool.host_kv.take_over(request.kv.offsets)
        try:
            self._queue(request, prefill_only)
        except UserError as error:
            if request.kv is not None:
                self._pool.store.discard(request.kv)
            self._outbox.add(Failed(self._clock(), request.spec.id, str(error)))
            return False
        self._requests[request.spec.id] = request
        return True

    def cancel(self, ident: int) -> Request:
        """Drop a request; return it as its scheduler knows it."""
        spec = self._drop(ident)
        self._outbox.add(Finished(self._clock(), ident, "abort"))
        return spec

    def give_up(self, ident: int, reason: str) -> None:
        """Drop a request that cannot be served, if it is unfinished."""
        if ident in self._requests:
            self._drop(ident)
            self._outbox.add(Failed(self._clock(), ident, reason))

    def report(self, step: Step, prefill_only: bool) -> list[str]:
        """Pass a step's tokens on; return the ids of requests that are complete."""
        now = self._clock()
        complete = []
        for output in step.outputs:
            ident = int(output.request_id)
            self._outbox.add(Tokens(now, ident, output))
            if not output.finished:
                continue
            request = self._requests.pop(ident)
            more = output.finish_reason == "length" and _tokens_left(request) > 1
            if prefill_only and more:
                self._hand_over(request, output)
            else:
                complete.append(output.request_id)
                self._outbox.add(Finished(now, ident, output.finish_reason or "stop"))
        self._outbox.flush_if_due(now)
        return complete

    def _queue(self, request: LiveRequest, prefill_only: bool) -> None:
        spec, left = request.spec, _tokens_left(request)
        params = {**request.params, "max_tokens": 1 if prefill_only else left}
        hand_over = prefill_only and left > 1
        if spec.model not in self._engines:
            raise UserError(f"this instance has no engine of model {spec.model}")
        if hand_over and params.get("n", 1) > 1:
            raise UserError("n > 1 needs an instance that does both prefill and decoding")
        prompt = request.prompt + request.generated
        engine = self._engines[spec.model]
        engine.add(str(spec.id), prompt, params, request.kv, hand_over, request.adapter)

    def _drop(self, ident: int) -> Request:
        request = self._requests.pop(ident)
        self._engines[request.spec.model].abort(str(ident))
        return request.spec

    def _hand_over(self, request: LiveRequest, output: TokenOutput) -> None:
        """Report that a request goes on in another instance, its KV being in the host pool."""
        began = self._clock()
        # The reader of the event may read the blocks at once.
        self._pool.store.settle()
        if output.kv is not None:
            self._pool.host_kv.hand_over(output.kv.offsets, in_flight(request.spec.id))
        now = self._clock()
        self._meter.add_data(now - began)
        self._outbox.hurry()
        moved = replace(request, generated=request.generated + output.token_ids, kv=output.kv)
        self._outbox.add(Prefilled(now, moved))


def _tokens_left(request: LiveRequest) -> int:
    wanted: Any = request.params.get("max_tokens", request.due)
    return int(wanted) - len(request.generated)
