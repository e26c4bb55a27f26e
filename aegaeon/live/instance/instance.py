"""A live instance: one device, its engines, and the scheduler that says what runs next.

It obeys the same `Work` as the simulated instance and reports the same `Outcome`, with measured
times. One thread runs the loop; requests and cancellations may come from any thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from aegaeon.core import (
    Decode,
    Fail,
    Idle,
    InstanceSpec,
    Outcome,
    Prefill,
    Request,
    Stage,
    Work,
)
from aegaeon.errors import UserError
from aegaeon.live.events import (
    Accepted,
    Event,
    Failed,
    Finished,
    LiveRequest,
    Moved,
    Prefilled,
    Ran,
    Switched,
    TokenOutput,
    Tokens,
)
from aegaeon.live.instance.device_pool import DevicePool, Switch
from aegaeon.live.instance.kv_store import KvMove
from aegaeon.live.memory.kv_pool import in_flight
from aegaeon.policy.interface import Scheduler

if TYPE_CHECKING:
    from aegaeon.live.vllm.model_engine import ModelEngine, Step

FLUSH_S = 0.02
_NO_ROOM = "its KV does not fit into the device's KV arena; make kv_bytes larger"


@dataclass(slots=True)
class _Piece:
    """What a piece of work took so far (see `Ran`), and which requests ran in it."""

    start: float = 0.0
    steps: int = 0
    busy_s: float = 0.0
    data_s: float = 0.0
    lead_s: float = 0.0
    ran: set[str] = field(default_factory=set)


class LiveInstance:
    """Runs `scheduler` on the engines of one device.

    `engines` are the models' engines on `pool`, made beforehand. `sink` gets events in order, in
    batches at most `flush_s` apart while work goes on. `clock` returns seconds since the run began.
    """

    def __init__(
        self,
        spec: InstanceSpec,
        scheduler: Scheduler,
        pool: DevicePool,
        engines: Mapping[str, ModelEngine],
        sink: Callable[[Sequence[Event]], None],
        clock: Callable[[], float],
        flush_s: float = FLUSH_S,
    ) -> None:
        self.spec = spec
        self._scheduler = scheduler
        self._pool = pool
        self._engines = engines
        self._sink = sink
        self._clock = clock
        self._flush_s = flush_s
        self._inbox: deque[tuple[float, LiveRequest | int]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._requests: dict[int, LiveRequest] = {}
        self._cancelled: list[Request] = []
        self._events: list[Event] = []
        self._flushed = 0.0
        self._kv_wait_s = 0.0
        self._kv_out_s = 0.0
        self._piece = _Piece()
        pool.store.on_move(self._note_move)

    def accept(self, request: LiveRequest) -> None:
        """Take a request in; its scheduler learns of it at the latest when a step ends."""
        self._post(request)

    def cancel(self, request: int) -> None:
        """Stop a request at the end of the step that runs now; unknown ones are ignored."""
        self._post(request)

    def stop(self) -> None:
        """Make `run` return after the work it is doing."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def run(self) -> None:
        """Work until `stop` is called."""
        while not self._stopping:
            work = self.turn()
            if isinstance(work, Idle):
                self._sleep(work.until)

    def turn(self) -> Work:
        """Ask the scheduler once, do what it says, and tell it what became of that."""
        self._drain()
        for request in self._cancelled:
            self._scheduler.cancel(request, self._clock())
        self._cancelled.clear()
        work = self._scheduler.next_work(self._clock())
        if isinstance(work, Fail):
            for request in work.requests:
                self._give_up(request.id, "the system's policy gave it up")
        elif not isinstance(work, Idle):
            outcome = self._perform(work)
            self._scheduler.record(work, outcome, self._clock())
        self._flush()
        return work

    def _perform(self, work: Prefill | Decode) -> Outcome:
        switch = self._activate(work.model)
        if work.prefetch is not None and work.prefetch in self._engines:
            self._pool.prefetch(work.prefetch)
        engine = self._engines[work.model]
        self._piece = _Piece()
        if isinstance(work, Prefill):
            outcome = self._prefill(engine, work.requests)
        else:
            outcome = self._decode(engine, work.requests, work.quota)
            self._end_piece("decode", work.model, outcome.end)
        seconds = None if switch is None else switch.seconds
        return replace(outcome, switch_s=seconds)

    def _prefill(self, engine: ModelEngine, batch: Sequence[Request]) -> Outcome:
        """Step until every request has its token; a long prompt takes several steps."""
        pending = {str(request.id): request for request in batch}
        finished: list[Request] = []
        start = None
        while pending:
            began, step = self._step(engine, pending)
            start = began if start is None else start
            done = self._report(step)
            finished += [pending[ident] for ident in done]
            given = {output.request_id for output in step.outputs}
            if given:
                # Those who leave now have no part in the steps that follow.
                self._end_piece("prefill", engine.name, self._clock())
            pending = {ident: r for ident, r in pending.items() if ident not in given}
            if not step.ran:
                break
        end = self._clock()
        if len(pending) == len(batch):
            # Nothing else runs beside it, so it would never fit.
            finished = list(pending.values())
            self._fail(finished, _NO_ROOM)
            pending = {}
        return Outcome(start or end, end, 1, tuple(finished), tuple(pending.values()))

    def _decode(self, engine: ModelEngine, batch: Sequence[Request], quota: float) -> Outcome:
        """Step until the quota is used, a request is done, or something asks for a decision."""
        byid = {str(request.id): request for request in batch}
        active: Collection[str] = byid
        finished: list[Request] = []
        start, steps, cut = 0.0, 0, False
        while not (finished or cut):
            began, step = self._step(engine, active)
            start = start if steps else began
            if not step.ran:
                self._fail(batch, _NO_ROOM)
                return Outcome(start, self._clock(), 0, tuple(batch))
            steps += 1
            finished = [byid[ident] for ident in self._report(step)]
            cut = self._drain(byid) or len(step.ran) < len(batch)
            active = step.ran
            # A step that would push someone out belongs to the next piece of work.
            cut = cut or self._clock() - start >= quota or not engine.fits(active)
        skipped = tuple([request for ident, request in byid.items() if ident not in active])
        return Outcome(start, self._clock(), steps, tuple(finished), skipped)

    def _step(self, engine: ModelEngine, batch: Collection[str]) -> tuple[float, Step]:
        """Run one step; return when it began, KV having arrived, and what it gave."""
        self._kv_wait_s = self._kv_out_s = 0.0
        began = self._clock()
        step = engine.step(batch)
        seconds = self._clock() - began
        piece, moved = self._piece, self._kv_wait_s + self._kv_out_s
        if not piece.steps:
            piece.start, piece.lead_s = began + self._kv_wait_s, self._kv_wait_s
        piece.steps += 1
        piece.busy_s += seconds - moved
        piece.data_s += moved
        piece.ran |= step.ran
        return began + self._kv_wait_s, step

    def _end_piece(self, kind: str, model: str, end: float) -> None:
        piece, self._piece = self._piece, _Piece()
        if piece.ran:
            ids = tuple(sorted([int(ident) for ident in piece.ran]))
            spent = (piece.busy_s, piece.data_s, piece.lead_s)
            self._events.append(Ran(piece.start, end, kind, model, ids, piece.steps, *spent))

    def _activate(self, model: str) -> Switch | None:
        before = self._pool.active
        if before is not None and before != model and before in self._engines:
            if not self.spec.keep_kv:
                self._engines[before].give_up_kv(self._engines[before].requests)
            elif not self.spec.lazy_eviction:
                self._pool.store.evict(before)
        switch = self._pool.activate(model)
        if switch is not None:
            self._events.append(
                Switched(self._clock(), model, switch.seconds, switch.nbytes, switch.prefetched)
            )
        return switch

    def _report(self, step: Step) -> list[str]:
        """Pass a step's tokens on; return the ids of requests that are done here for good."""
        now = self._clock()
        done = []
        for output in step.outputs:
            ident = int(output.request_id)
            self._events.append(Tokens(now, ident, output))
            if not output.finished:
                continue
            request = self._requests.pop(ident)
            if self._goes_on(request, output):
                self._hand_over(request, output)
            else:
                done.append(output.request_id)
                self._events.append(Finished(now, ident, output.finish_reason or "stop"))
        self._flush(now)
        return done

    def _goes_on(self, request: LiveRequest, output: TokenOutput) -> bool:
        prefill_only = self.spec.stage is Stage.PREFILL
        return prefill_only and output.finish_reason == "length" and _tokens_left(request) > 1

    def _hand_over(self, request: LiveRequest, output: TokenOutput) -> None:
        began = self._clock()
        # Whoever reads the event may read the blocks.
        self._pool.store.settle()
        if output.kv is not None:
            self._pool.host_kv.hand_over(output.kv.offsets, in_flight(request.spec.id))
        now = self._clock()
        self._piece.data_s += now - began
        # Another instance waits for it: send it with this step's events.
        self._flushed = float("-inf")
        moved = replace(request, generated=request.generated + output.token_ids, kv=output.kv)
        self._events.append(Prefilled(now, moved))

    def _drain(self, running: Collection[str] = ()) -> bool:
        """Handle what came in; return whether running work should be cut at this step's end."""
        cut = False
        while self._inbox:
            time, item = self._inbox.popleft()
            if isinstance(item, LiveRequest):
                self._events.append(Accepted(time, item.spec.id))
                cut = self._add(item) or cut
            elif item in self._requests:
                self._cancel(item)
                cut = cut or str(item) in running
        return cut

    def _add(self, request: LiveRequest) -> bool:
        spec, now = request.spec, self._clock()
        params = dict(request.params)
        params["max_tokens"] = _tokens_left(request)
        prefill_only = self.spec.stage is Stage.PREFILL
        hand_over = prefill_only and params["max_tokens"] > 1
        if prefill_only:
            params["max_tokens"] = 1
        if request.kv is not None:
            self._pool.host_kv.take_over(request.kv.offsets)
        try:
            if spec.model not in self._engines:
                raise UserError(f"instance {self.spec.id} has no engine of model {spec.model}")
            if hand_over and params.get("n", 1) > 1:
                raise UserError("n > 1 needs an instance that does both prefill and decoding")
            engine = self._engines[spec.model]
            prompt = request.prompt + request.generated
            engine.add(str(spec.id), prompt, params, request.kv, hand_over, request.adapter)
        except UserError as error:
            if request.kv is not None:
                self._pool.store.discard(request.kv)
            self._events.append(Failed(now, spec.id, str(error)))
            return False
        self._requests[spec.id] = request
        return self._scheduler.add(spec, now)

    def _cancel(self, ident: int) -> None:
        request = self._requests.pop(ident)
        self._engines[request.spec.model].abort(str(ident))
        self._cancelled.append(request.spec)
        self._events.append(Finished(self._clock(), ident, "abort"))

    def _fail(self, requests: Sequence[Request], reason: str) -> None:
        for request in requests:
            self._give_up(request.id, reason)

    def _give_up(self, ident: int, reason: str) -> None:
        request = self._requests.pop(ident, None)
        if request is not None:
            self._engines[request.spec.model].abort(str(ident))
            self._events.append(Failed(self._clock(), ident, reason))

    def _note_move(self, move: KvMove) -> None:
        if move.exported:
            self._kv_out_s += move.seconds
        else:
            self._kv_wait_s += move.seconds
        self._events.append(
            Moved(self._clock(), move.engine, move.seconds, move.out_bytes, move.in_bytes)
        )

    def _post(self, item: LiveRequest | int) -> None:
        with self._wake:
            self._inbox.append((self._clock(), item))
            self._wake.notify()

    def _sleep(self, until: float) -> None:
        with self._wake:
            if not (self._inbox or self._stopping):
                wait = until - self._clock()
                self._wake.wait(None if wait == float("inf") else max(0.0, wait))

    def _flush(self, now: float | None = None) -> None:
        """Send events: at once, or, given the time, if the last batch is old enough."""
        if now is not None and now - self._flushed < self._flush_s:
            return
        if self._events:
            events, self._events = self._events, []
            self._sink(events)
        self._flushed = self._clock()


def _tokens_left(request: LiveRequest) -> int:
    wanted: Any = request.params.get("max_tokens", request.due)
    return int(wanted) - len(request.generated)
