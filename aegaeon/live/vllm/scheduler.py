"""vLLM's scheduler with a batch: the engine names the requests that the next step may run."""

from __future__ import annotations

import time
from collections.abc import Collection
from itertools import chain
from typing import TYPE_CHECKING

from vllm.v1.core.sched.scheduler import Scheduler

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.core.single_type_kv_cache_manager import SingleTypeKVCacheManager
    from vllm.v1.request import Request


class EngineScheduler(Scheduler):  # type: ignore[misc]
    """Schedules the requests in `batch` (ids of vLLM, None for all) as if there were no others.

    After a step `ran` has the requests that it ran and `computed` their tokens. `added` collects
    the ids of new requests. With `keep_kv` the KV of a preempted request goes to the host pool;
    without, vLLM recomputes it.
    """

    batch: set[str] | None = None
    keep_kv = True

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.running: list[Request]
        self.ran: frozenset[str] = frozenset()
        self.computed = 0
        self.added: list[str] = []

    def add_request(self, request: Request) -> None:
        """Add a request and note its id; n > 1 sequences of a user's request are n requests."""
        super().add_request(request)
        self.added.append(request.request_id)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """Schedule the batch's requests as if there were no others."""
        running, waiting = self._hold_back()
        self._make_room(running, waiting)
        try:
            output = super().schedule(throttle_prefills)
        finally:
            self.running += running
            for request in waiting:
                self.waiting.add_request(request)
        self.ran = frozenset(output.num_scheduled_tokens)
        self.computed = output.total_num_scheduled_tokens
        return output

    def give_up_kv(self, ids: Collection[str]) -> None:
        """Preempt running requests and drop their KV, on the device and in the host pool."""
        keep, self.keep_kv = self.keep_kv, False
        for request in [r for r in self.running if r.request_id in ids]:
            self.running.remove(request)
            self._preempt_request(request, time.monotonic())
        self.keep_kv = keep

    def give_up_blocks(self, blocks: Collection[int]) -> None:
        """Give up the KV of every request that owns one of these blocks."""
        gone = set(blocks)
        owned = self.kv_cache_manager.get_block_ids
        self.give_up_kv(
            [r.request_id for r in self.running if not gone.isdisjoint(chain(*owned(r.request_id)))]
        )

    def fits(self, ids: set[str] | None) -> bool:
        """Return whether the next step has KV blocks and adapter slots for the whole batch."""
        chosen = self._admitted(ids)
        if chosen is not None:
            wanted = self.requests.keys() if ids is None else ids & self.requests.keys()
            if len(chosen) < len(wanted):
                return False
        return self._shortage(ids) <= 0

    def _shortage(self, ids: Collection[str] | None) -> int:
        """Return how many more blocks the next step needs than are free or held by other requests.

        A number of 0 or less means that the blocks suffice.
        """
        inside = [r for r in self.requests.values() if ids is None or r.request_id in ids]
        held = [] if ids is None else [r for r in self.running if r.request_id not in ids]
        need = sum([self._missing_blocks(r) for r in inside])
        free = self.kv_cache_manager.block_pool.get_num_free_blocks()
        return need - int(free) - sum([self._owned_blocks(r) for r in held])

    def _hold_back(self) -> tuple[list[Request], list[Request]]:
        """Take requests outside the batch off vLLM's queues; return the running, the waiting."""
        batch = self._admitted(self.batch)
        if batch is None or batch >= self.requests.keys():
            return [], []
        running = [r for r in self.running if r.request_id not in batch]
        waiting = [r for r in self.waiting if r.request_id not in batch]
        if running:
            self.running = [r for r in self.running if r.request_id in batch]
        if waiting:
            self.waiting.remove_requests(waiting)
        return running, waiting

    def _admitted(self, batch: set[str] | None) -> set[str] | None:
        """Return the part of the batch for which a step has adapter slots, first come first served.

        vLLM checks the slots for waiting requests only, because its running requests all ran in one
        step. Ours take turns, so running requests may need more slots than there are.
        """
        if self.lora_config is None:
            return batch
        slots: set[int] = set()
        chosen: set[str] = set()
        for ident, request in self.requests.items():
            if batch is not None and ident not in batch:
                continue
            if request.lora_request is not None:
                number = request.lora_request.lora_int_id
                if number not in slots and len(slots) == self.lora_config.max_loras:
                    continue
                slots.add(number)
            chosen.add(ident)
        return chosen

    def _make_room(self, running: list[Request], waiting: list[Request]) -> None:
        """Preempt requests outside the batch until the batch has the blocks that it needs."""
        if not running:
            return
        inside = [*self.running, *self.waiting]
        need = sum([self._missing_blocks(r) for r in inside])
        pool = self.kv_cache_manager.block_pool
        while running and pool.get_num_free_blocks() < need:
            request = running.pop()
            self._preempt_request(request, time.monotonic())
            self.waiting.remove_request(request)
            waiting.insert(0, request)

    def _preempt_request(self, request: Request, timestamp: float, **kwargs: object) -> None:
        (self.connector.park if self.keep_kv else self.connector.forget)(request)
        super()._preempt_request(request, timestamp, **kwargs)

    def _missing_blocks(self, request: Request) -> int:
        managers = self.kv_cache_manager.coordinator.single_type_managers
        return sum(
            [
                max(0, -(-request.num_tokens // m.block_size) - self._owned(m, request))
                for m in managers
            ]
        )

    def _owned_blocks(self, request: Request) -> int:
        managers = self.kv_cache_manager.coordinator.single_type_managers
        return sum([self._owned(m, request) for m in managers])

    @staticmethod
    def _owned(manager: SingleTypeKVCacheManager, request: Request) -> int:
        return len(manager.req_to_blocks.get(request.request_id, ()))
