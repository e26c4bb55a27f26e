"""A further rank of a tensor-parallel instance: a process that does what rank 0 says.

Started by `ranks.RankGroup`. It owns its device's memory and one worker per engine; it decides
nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from aegaeon.errors import UserError
from aegaeon.live.instance.device_pool import DevicePool, Switch
from aegaeon.live.memory.device import StreamEvent, open_device
from aegaeon.live.memory.kv_pool import KvPool
from aegaeon.live.memory.shared import SharedDirectory
from aegaeon.live.memory.weight_cache import WeightCache
from aegaeon.live.tp.group import GRACE_S, RESUME, STOP, RankPlan, Reply, connection
from aegaeon.live.vllm.executor import VllmConfig, make_worker, run_method
from aegaeon.live.vllm.worker import Lease, collect, leasing

_PARENT_CHECK_S = 1.0


class Rank:
    """Rank `rank`'s memory and workers; its methods are what `RankGroup` calls by name."""

    def __init__(self, rank: int, plan: RankPlan) -> None:
        device = plan.device if plan.device == "cpu" else f"{plan.device.split(':')[0]}:{rank}"
        if device != "cpu":
            torch.cuda.set_device(rank)
        opened = open_device(device)
        self._rank = rank
        self._shared = SharedDirectory.attach(plan.shared)
        self._host_kv = KvPool.attach(self._shared, opened)
        self._pool = DevicePool(
            opened,
            WeightCache(self._shared, plan.cache_bytes, opened),
            self._host_kv,
            slot_bytes=plan.slot_bytes,
            kv_bytes=plan.kv_bytes,
            weight_slots=plan.weight_slots,
            rank=rank,
            size=plan.size,
        )
        self._workers: dict[str, Any] = {}
        self._moves: deque[StreamEvent] = deque()
        self.moved = 0

    def create(self, key: str, name: str, path: str, config: VllmConfig, rendezvous: str) -> None:
        """Make this rank's worker of an engine, its weights loaded."""
        with leasing(Lease(name, Path(path), self._pool, key)):
            self._workers[key] = make_worker(config, rendezvous, self._rank)

    def rpc(
        self,
        key: str,
        method: str | Callable[..., object],
        args: Sequence[object],
        kwargs: dict[str, object],
    ) -> object:
        """Call a method of an engine's worker; what a step gives is rank 0's to return."""
        result = run_method(self._workers[key], method, args, kwargs)
        return None if method in ("execute_model", "sample_tokens") else result

    def remove(self, key: str, name: str) -> None:
        """Give an engine's memory back."""
        worker = self._workers.pop(key, None)
        self._pool.remove(name)
        config = None if worker is None else worker.vllm_config
        del worker
        collect(config)

    def activate(self, model: str) -> Switch:
        """Put a model's weights in place."""
        return self._pool.activate(model) or Switch(model, 0.0, 0, True)

    def prefetch(self, model: str) -> None:
        """Start bringing a model's weights to the spare slot."""
        self._pool.prefetch(model)

    def move(self, way: str, *args: Any) -> None:  # noqa: ANN401
        """Start moving this rank's part of KV blocks, "out" or "back"."""
        self._moves.append(getattr(self._pool.store.mover, way)(*args))

    def settle(self) -> None:
        """Wait for every move."""
        self._pool.store.mover.settle()

    def count_moves(self) -> int:
        """Return how many moves are complete."""
        while self._moves and self._moves[0].done():
            self._moves.popleft()
            self.moved += 1
        return self.moved

    def close(self) -> None:
        """Give the node's memory back."""
        self._pool.close()
        self._host_kv.close()
        self._shared.close()


def serve(pipe: Connection) -> None:
    """Do what comes through the pipe, in order, until it says stop or ends."""
    rank = Rank(*pipe.recv())
    while True:
        method, args = pipe.recv()
        if method == STOP:
            rank.close()
            return
        try:
            value = getattr(rank, method)(*args)
        except Exception as error:
            traceback.print_exc()
            failure = str(error) if isinstance(error, UserError) else repr(error)
            pipe.send(Reply(rank.count_moves(), None, failure, isinstance(error, UserError)))
            _await_resume(pipe, rank)
        else:
            pipe.send(Reply(rank.count_moves(), value))


def _await_resume(pipe: Connection, rank: Rank) -> None:
    """Skip calls made before rank 0 knew; raise TimeoutError if it does not answer."""
    while True:
        if not pipe.poll(GRACE_S):
            raise TimeoutError("rank 0 does not answer")
        method, _ = pipe.recv()
        if method == RESUME:
            return
        if method == STOP:
            raise EOFError
        pipe.send(Reply(rank.count_moves()))


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
