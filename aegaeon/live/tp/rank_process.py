"""A further rank of a tensor-parallel instance: a process that does what rank 0 says.

`tp.peer.Peer` starts it. The process owns its device's memory and one worker per model engine; it
decides nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections import deque
from multiprocessing.connection import Connection
from typing import Any, assert_never

import torch

from aegaeon.errors import UserError
from aegaeon.live.instance.device_pool import DevicePool, Switch
from aegaeon.live.memory.device import StreamEvent, open_device
from aegaeon.live.memory.kv_pool import KvPool
from aegaeon.live.memory.shared import SharedDirectory
from aegaeon.live.memory.weight_cache import WeightCache
from aegaeon.live.tp.messages import (
    GRACE_S,
    Activate,
    Call,
    CallWorker,
    MakeWorker,
    Message,
    MoveBack,
    MoveOut,
    Prefetch,
    RemoveEngine,
    Reply,
    Resume,
    Settle,
    Setup,
    Stop,
)
from aegaeon.live.tp.peer import connection
from aegaeon.live.vllm.executor import make_worker, run_method
from aegaeon.live.vllm.lease import Lease, collect, leasing

_PARENT_CHECK_S = 1.0
# vLLM's names of the calls that make up a step: rank 0 alone returns what a step gives.
_STEP = ("execute_model", "sample_tokens")


class Rank:
    """One rank's memory and workers."""

    def __init__(self, setup: Setup) -> None:
        self._rank, plan = setup.rank, setup.plan
        on_cpu = plan.device == "cpu"
        device = plan.device if on_cpu else f"{plan.device.split(':')[0]}:{self._rank}"
        if not on_cpu:
            torch.cuda.set_device(self._rank)
        opened = open_device(device)
        self._shared = SharedDirectory.attach(plan.shared)
        self._host_kv = KvPool.attach(self._shared, opened)
        self._pool = DevicePool(
            opened,
            WeightCache(self._shared, plan.cache_bytes, opened),
            self._host_kv,
            slot_bytes=plan.slot_bytes,
            kv_bytes=plan.kv_bytes,
            weight_slots=plan.weight_slots,
            rank=self._rank,
            size=plan.size,
        )
        self._workers: dict[str, Any] = {}
        self._moves: deque[StreamEvent] = deque()
        self._moved = 0

    def carry_out(self, call: Call) -> object:
        """Do what a call says; return its value, or raise what went wrong."""
        match call:
            case MakeWorker():
                self._make(call)
            case CallWorker():
                return self._call(call)
            case RemoveEngine():
                self._remove(call)
            case Activate():
                return self._pool.activate(call.model) or Switch(call.model, 0.0, 0, True)
            case Prefetch():
                self._pool.prefetch(call.model)
            case MoveOut() | MoveBack():
                self._moves.append(self._pool.store.mover.move(call))
            case Settle():
                self._pool.store.mover.settle()
            case _:
                assert_never(call)
        return None

    def reply(self, value: object = None, error: Exception | None = None) -> Reply:
        """Return the answer to a call."""
        while self._moves and self._moves[0].done():
            self._moves.popleft()
            self._moved += 1
        if error is None:
            return Reply(self._moved, value)
        refused = isinstance(error, UserError)
        return Reply(self._moved, None, str(error) if refused else repr(error), refused)

    def close(self) -> None:
        """Give the node's memory back."""
        self._pool.close()
        self._host_kv.close()
        self._shared.close()

    def _make(self, call: MakeWorker) -> None:
        with leasing(Lease(call.name, call.path, self._pool, call.key)):
            self._workers[call.key] = make_worker(call.config, call.rendezvous, self._rank)

    def _call(self, call: CallWorker) -> object:
        result = run_method(self._workers[call.key], call.method, call.args, call.kwargs)
        return None if call.method in _STEP else result

    def _remove(self, call: RemoveEngine) -> None:
        worker = self._workers.pop(call.key, None)
        self._pool.remove(call.name)
        config = None if worker is None else worker.vllm_config
        del worker
        collect(config)


def serve(pipe: Connection) -> None:
    """Carry out what comes through the pipe, in order, until `Stop`; EOFError if the pipe ends."""
    rank = Rank(pipe.recv())
    while True:
        message: Message = pipe.recv()
        match message:
            case Stop():
                rank.close()
                return
            case Resume():
                raise RuntimeError("told to resume, but nothing failed")
            case _:
                _obey(pipe, rank, message)


def _obey(pipe: Connection, rank: Rank, call: Call) -> None:
    """Carry out one call and answer it; after a failure, wait until rank 0 knows of it."""
    try:
        value = rank.carry_out(call)
    except Exception as error:
        traceback.print_exc()
        pipe.send(rank.reply(error=error))
        _await_resume(pipe, rank)
    else:
        pipe.send(rank.reply(value))


def _await_resume(pipe: Connection, rank: Rank) -> None:
    """Skip calls made before rank 0 knew; raise TimeoutError if it does not answer."""
    while True:
        if not pipe.poll(GRACE_S):
            raise TimeoutError("rank 0 does not answer")
        message: Message = pipe.recv()
        match message:
            case Resume():
                return
            case Stop():
                raise EOFError
            case _:
                pipe.send(rank.reply())


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, even amid an operation that never returns."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os._exit(1)


def main(descriptor: int, parent: int) -> int:
    """Run one rank; return its exit status."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        serve(connection(descriptor))
    except EOFError:
        return 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    status = main(int(sys.argv[1]), int(sys.argv[2]))
    sys.stderr.flush()
    # Exit hooks of the libraries would wait for ranks that may be gone.
    os._exit(status)
