"""A tensor-parallel instance of tiny models in a separate process; a test calls its methods.

vLLM has one parallel state per process, and the test's process has a group of one rank.
"""

import os
import random
import subprocess
import sys
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

# KV bytes of all ranks together: about twice the KV of the longest request.
KV_BYTES = 6 << 17
SLOT_BYTES = 4 << 20


class Remote:
    """The test's side: `remote.switching(...)` calls the method of `Instance`."""

    def __init__(self, *given: object) -> None:
        self._pipe, theirs = Pipe()
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([p for p in sys.path if p])},
        )
        theirs.close()
        self._pipe.send(given)

    def __getattr__(self, method: str) -> Any:
        def call(*args: object) -> Any:
            self._pipe.send((method, args))
            answer = self._pipe.recv()
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def end(self) -> int:
        """Close the pipe, wait for the process to end, and return the exit status."""
        self._pipe.close()
        return self.process.wait(60)


class Instance:
    """One instance of `size` ranks with an engine per model."""

    def __init__(self, size: int, shared: str, models: list[Any], folder: str) -> None:
        from aegaeon.live.instance.device_pool import DevicePool
        from aegaeon.live.memory.device import open_device
        from aegaeon.live.memory.kv_pool import KvPool
        from aegaeon.live.memory.shared import SharedDirectory
        from aegaeon.live.memory.weight_cache import WeightCache
        from aegaeon.live.tp.group import RankGroup
        from aegaeon.live.tp.messages import RankPlan

        kv_bytes = KV_BYTES // size
        sizes = {"slot_bytes": SLOT_BYTES, "kv_bytes": kv_bytes, "weight_slots": 2}
        budget = 1 << 30
        self.lost: list[str] = []
        self.group = RankGroup(
            RankPlan(size, "cpu", shared, budget, **sizes), lambda e: self.lost.append(str(e))
        )
        device = open_device("cpu")
        self.shared = SharedDirectory.attach(shared)
        self.host_kv = KvPool.attach(self.shared, device)
        cache = WeightCache(self.shared, budget, device)
        self.pool = DevicePool(device, cache, self.host_kv, **sizes, ranks=self.group)
        self.models = {model.name: model for model in models}
        self.folder = Path(folder)
        self.engines: dict[str, Any] = {}
        for name in self.models:
            self.make(name)
        self.moves: list[Any] = []
        self.pool.store.on_move(self.moves.append)

    def make(self, name: str) -> None:
        from aegaeon.live.tiny import tiny_options
        from aegaeon.live.vllm.model_engine import ModelEngine

        options = tiny_options(self.models[name])
        self.engines[name] = ModelEngine(name, self.folder / name, self.pool, options)

    def close_engine(self, name: str) -> None:
        self.engines.pop(name).close()

    def alone(self, prompts: dict[str, list[int]], params: dict[str, Any]) -> dict[str, list[int]]:
        """Run one request at a time."""
        tokens = {}
        for ident, prompt in prompts.items():
            name = ident.split("/")[0]
            self.pool.activate(name)
            self.engines[name].add(ident, prompt, params)
            tokens |= self._finish([name], random.Random(0))
        return tokens

    def switching(self, prompts: dict[str, Any], params: dict[str, Any], seed: int) -> Any:
        """Run all requests, given as prompts or (prompt, KV), by turns of random batches."""
        for ident, given in prompts.items():
            prompt, kv = given if isinstance(given, tuple) else (given, None)
            self.engines[ident.split("/")[0]].add(ident, prompt, params, kv)
        turns = self.pool.switches
        self.moves.clear()
        tokens = self._finish(list(self.engines), random.Random(seed))
        moved = [sum([m.out_bytes for m in self.moves]), sum([m.in_bytes for m in self.moves])]
        return tokens, self.pool.switches - turns, moved

    def prefill(self, prompts: dict[str, list[int]], params: dict[str, Any]) -> dict[str, Any]:
        """Return each request's first token and its KV in the host pool."""
        first: dict[str, Any] = {}
        for ident, prompt in prompts.items():
            name = ident.split("/")[0]
            self.pool.activate(name)
            self.engines[name].add(ident, prompt, {**params, "max_tokens": 1}, hand_over=True)
            while self.engines[name].requests:
                for output in self.engines[name].step().outputs:
                    first[ident] = (list(output.token_ids), output.kv)
        self.pool.store.settle()
        return first

    def ranks(self) -> list[int]:
        return [peer.process.pid for peer in self.group._peers]

    def lost_ranks(self) -> list[str]:
        return self.lost

    def used(self) -> int:
        self.group.settle()
        self.host_kv.reclaim()
        return sum([use.used for use in self.host_kv.stats().values()])

    def resident(self) -> int:
        return sum([self.pool.kv.resident(name).size for name in self.engines])

    def close(self) -> None:
        self.group.close()
        self.pool.close()
        self.host_kv.close()
        self.shared.close()

    def _finish(self, names: list[str], rng: random.Random) -> dict[str, list[int]]:
        tokens: dict[str, list[int]] = {}
        while waiting := [name for name in names if self.engines[name].requests]:
            engine = self.engines[rng.choice(waiting)]
            self.pool.activate(engine.name)
            for _ in range(rng.randrange(1, 3)):
                ids = sorted(engine.requests)
                batch = rng.sample(ids, rng.randrange(1, len(ids) + 1)) if ids else []
                for output in engine.step(batch).outputs if batch else ():
                    tokens.setdefault(output.request_id, []).extend(output.token_ids)
        return tokens


def main(descriptor: int) -> None:
    pipe = Connection(descriptor)
    instance = Instance(*pipe.recv())
    while True:
        try:
            method, args = pipe.recv()
        except EOFError:
            instance.close()
            return
        try:
            pipe.send(getattr(instance, method)(*args))
        except Exception as error:
            pipe.send(error)


if __name__ == "__main__":
    main(int(sys.argv[1]))
