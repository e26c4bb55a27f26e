"""A live instance: one device, its model engines, and the scheduler that says what runs next.

It obeys the same `Work` as the simulated instance and reports the same `Outcome`, with measured
times. One thread runs the loop; requests and cancellations may come from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

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
from aegaeon.live.events import Accepted, Event, LiveRequest, Moved, Switched
from aegaeon.live.instance.device_pool import DevicePool, Switch
from aegaeon.live.instance.inbox import Inbox
from aegaeon.live.instance.kv_store import KvMove
from aegaeon.live.instance.meter import WorkMeter
from aegaeon.live.instance.outbox import Outbox
from aegaeon.live.instance.requests import UnfinishedRequests
from aegaeon.policy.interface import Scheduler

if TYPE_CHECKING:
    from aegaeon.live.vllm.model_engine import ModelEngine, Step

FLUSH_S = 0.02
_NO_ROOM = "its KV does not fit into the device's KV arena; make kv_bytes larger"


class LiveInstance:
    """Runs `scheduler` on the engines of one device.

    `engines` are the models' engines on `pool`, made beforehand. `sink` gets events in order, in
    batches at most `flush_s` apart while work goes on. `clock` returns seconds since the run began.

    One class, because each kind of work item needs the device, the engines and the open requests.
    Inbox, outbox, meter and unfinished requests are objects of their own.
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
        self._clock = clock
        self._inbox = Inbox(clock)
        self._outbox = Outbox(sink, clock, flush_s)
        self._meter = WorkMeter()
        self._requests = UnfinishedRequests(pool, engines, self._outbox, self._meter, clock)
        self._cancelled: list[Request] = []
        pool.store.on_move(self._note_move)

    def accept(self, request: LiveRequest) -> None:
        """Take a request in; its scheduler learns of it at the latest when a step ends."""
        self._inbox.put(request)

    def cancel(self, request: int) -> None:
        """Stop a request at the end of the current step; unknown ones are ignored."""
        self._inbox.put(request)

    def stop(self) -> None:
        """Make `run` return after the current work item."""
        self._inbox.stop()

    def run(self) -> None:
        """Work until `stop` is called."""
        while not self._inbox.stopped:
            work = self.run_next()
            if isinstance(work, Idle):
                self._inbox.wait(work.until)

    def run_next(self) -> Work:
        """Ask the scheduler for one work item, do it, and report the outcome to the scheduler."""
        self._drain()
        for request in self._cancelled:
            self._scheduler.cancel(request, self._clock())
        self._cancelled.clear()
        work = self._scheduler.next_work(self._clock())
        if isinstance(work, Fail):
            self._fail(work.requests, "the system's policy gave it up")
        elif not isinstance(work, Idle):
            outcome = self._perform(work)
            self._scheduler.record(work, outcome, self._clock())
        self._outbox.flush()
        return work

    @property
    def _prefill_only(self) -> bool:
        return self.spec.stage is Stage.PREFILL

    def _perform(self, work: Prefill | Decode) -> Outcome:
        switch = self._activate(work.model)
        if work.prefetch is not None and work.prefetch in self._engines:
            self._pool.prefetch(work.prefetch)
        engine = self._engines[work.model]
        self._meter.begin_item()
        if isinstance(work, Prefill):
            outcome = self._prefill(engine, work.requests)
        else:
            outcome = self._decode(engine, work.requests, work.quota)
            self._end_item("decode", work.model, outcome.end)
        seconds = None if switch is None else switch.seconds
        return outcome._replace(switch_s=seconds, busy_s=self._meter.item_busy_s)

    def _prefill(self, engine: ModelEngine, batch: Sequence[Request]) -> Outcome:
        """Step until every request has its token; a long prompt takes several steps."""
        pending = {str(request.id): request for request in batch}
        finished: list[Request] = []
        start = None
        while pending:
            began, step = self._step(engine, pending)
            start = began if start is None else start
            complete = self._requests.report(step, self._prefill_only)
            finished += [pending[ident] for ident in complete]
            given = {output.request_id for output in step.outputs}
            if given:
                # Requests that have their token take no part in the steps that follow.
                self._end_item("prefill", engine.name, self._clock())
            pending = {ident: r for ident, r in pending.items() if ident not in given}
            if not step.ran:
                break
        end = self._clock()
        if len(pending) == len(batch):
            # No other request takes any room, so these would never fit.
            finished = list(pending.values())
            self._fail(finished, _NO_ROOM)
            pending = {}
        return Outcome(start or end, end, 1, tuple(finished), tuple(pending.values()))

    def _decode(self, engine: ModelEngine, batch: Sequence[Request], quota: float) -> Outcome:
        """Step until the quota is used, a request is complete, or the scheduler has to decide."""
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
            complete = self._requests.report(step, self._prefill_only)
            finished = [byid[ident] for ident in complete]
            cut = self._drain(byid) or len(step.ran) < len(batch)
            active = step.ran
            # A step that would push a request out belongs to the next work item.
            cut = cut or self._clock() - start >= quota or not engine.fits(active)
        skipped = tuple([request for ident, request in byid.items() if ident not in active])
        return Outcome(start, self._clock(), steps, tuple(finished), skipped)

    def _step(self, engine: ModelEngine, batch: Collection[str]) -> tuple[float, Step]:
        """Run one step; return when it began, its KV having arrived, and its outputs."""
        self._meter.begin_step()
        began = self._clock()
        step = engine.step(batch)
        return self._meter.end_step(began, self._clock() - began, step.ran), step

    def _end_item(self, kind: str, model: str, end: float) -> None:
        report = self._meter.end(kind, model, end)
        if report is not None:
            self._outbox.add(report)

    def _activate(self, model: str) -> Switch | None:
        before = self._pool.active
        if before is not None and before != model and before in self._engines:
            if not self.spec.keep_kv:
                self._engines[before].give_up_kv(self._engines[before].requests)
            elif not self.spec.lazy_eviction:
                self._pool.store.evict(before)
        switch = self._pool.activate(model)
        if switch is not None:
            self._outbox.add(
                Switched(self._clock(), model, switch.seconds, switch.nbytes, switch.prefetched)
            )
        return switch

    def _drain(self, running: Collection[str] = ()) -> bool:
        """Handle what came in; return whether running work should be cut at this step's end."""
        cut = False
        for time, item in self._inbox.take():
            if isinstance(item, LiveRequest):
                self._outbox.add(Accepted(time, item.spec.id))
                if self._requests.add(item, self._prefill_only):
                    cut = self._scheduler.add(item.spec, self._clock()) or cut
            elif item in self._requests:
                self._cancelled.append(self._requests.cancel(item))
                cut = cut or str(item) in running
        return cut

    def _fail(self, requests: Sequence[Request], reason: str) -> None:
        for request in requests:
            self._requests.give_up(request.id, reason)

    def _note_move(self, move: KvMove) -> None:
        self._meter.note_move(move)
        self._outbox.add(
            Moved(self._clock(), move.engine, move.seconds, move.out_bytes, move.in_bytes)
        )
