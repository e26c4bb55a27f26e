"""Ways to bring another model's weights to a device that keeps its engines (paper figure 7)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from aegaeon.core import ModelSpec
from aegaeon.live.instance.device_pool import DevicePool
from aegaeon.live.measure.switch_cost.samples import MIN_MODELS, Candidate, SwitchSample
from aegaeon.live.memory.cleanup import remove_leftovers
from aegaeon.live.memory.device import open_device
from aegaeon.live.memory.kv_pool import KvPool
from aegaeon.live.memory.shared import SharedDirectory
from aegaeon.live.memory.weight_arena import slot_bytes_for
from aegaeon.live.memory.weight_cache import WeightCache
from aegaeon.live.options import SwitchCostOptions
from aegaeon.live.preflight.checkpoints import DTYPES
from aegaeon.live.tiny import tiny_model
from aegaeon.live.vllm.engine import ModelEngineOptions
from aegaeon.live.vllm.gemm import pack_again
from aegaeon.live.vllm.model_engine import ModelEngine

_SLAB_BYTES = 1 << 20


def candidates(
    models: Sequence[ModelSpec], options: SwitchCostOptions, folder: Path
) -> list[Candidate]:
    """Return every model with its checkpoint; random models are written below `folder`."""
    found = []
    for i, spec in enumerate(models):
        given = options.checkpoints.get(spec.type)
        path = tiny_model(spec, i).build(folder) if given is None else Path(given)
        dtype = DTYPES.get(spec.dtype_bytes, "auto")
        found.append(Candidate(spec, str(path), dtype, min(spec.max_len, options.max_len)))
    return found


class SwitchBench:
    """Engines of all candidates on one device with two weight slots."""

    def __init__(self, found: Sequence[Candidate], options: SwitchCostOptions) -> None:
        remove_leftovers()
        self._shared = SharedDirectory.create("switch-cost")
        self._device = device = open_device(options.device)
        largest = max([candidate.spec.weight_bytes for candidate in found])
        slot = slot_bytes_for(largest)
        self._host_kv = KvPool.create(self._shared, _SLAB_BYTES, 1, device)
        self._pool = DevicePool(
            device,
            WeightCache(self._shared, len(found) * 2 * slot, device),
            self._host_kv,
            slot_bytes=slot,
            kv_bytes=options.kv_bytes,
            weight_slots=2,
        )
        self._found = {candidate.spec.name: candidate for candidate in found}
        self._engines = {name: self._engine(c, options) for name, c in self._found.items()}
        self._scattered = {name: self._copies(name) for name in self._found}
        self._target = device.reserve(slot)
        self._next = 0
        # One measurement is dropped, because pages are slow when first touched.
        self.measure()

    def measure(self) -> list[SwitchSample]:
        """Measure every way once for every model; each call begins with the next model."""
        names = list(self._found)
        at, self._next = self._next % len(names), self._next + 1
        samples = []
        for i in range(at, at + len(names)):
            name, *others = [names[(i + step) % len(names)] for step in range(MIN_MODELS)]
            self._occupy(*others)
            samples.append(self._switched("packed", name))
            samples += [self._sample(way, name, work) for way, work in self._ways(name).items()]
            self._occupy(others[0], name)
            samples.append(self._switched("prefetched", name))
        return samples

    def close(self) -> None:
        """Remove the shared memory."""
        self._pool.close()
        self._host_kv.close()
        self._shared.close()

    def _engine(self, candidate: Candidate, options: SwitchCostOptions) -> ModelEngine:
        made = ModelEngineOptions(
            dtype=candidate.dtype, max_model_len=candidate.max_len, block_size=options.block_size
        )
        return ModelEngine(candidate.spec.name, Path(candidate.path), self._pool, made)

    def _copies(self, name: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the model's tensors, each with an ordinary host copy; tied tensors occur once."""
        self._pool.activate(name)
        named = self._pool.module(name).state_dict(keep_vars=True)
        return [(tensor, tensor.detach().to("cpu", copy=True)) for tensor in named.values()]

    def _ways(self, name: str) -> dict[str, Callable[[], object]]:
        """Return ways to fill the active model's tensors with the same values again."""
        packed = self._pool.packed(name)
        target = self._target[: packed.numel()]
        return {
            "memcpy": lambda: self._device.compute().copy(target, packed),
            "tensors": lambda: _copy_each(self._scattered[name]),
            "files": lambda: _read_files(self._pool.module(name), Path(self._found[name].path)),
        }

    def _sample(self, way: str, name: str, work: Callable[[], object]) -> SwitchSample:
        self._wait()
        began = time.perf_counter()
        work()
        self._wait()
        seconds = time.perf_counter() - began
        return SwitchSample(way, name, seconds, self._pool.packed(name).numel())

    def _occupy(self, active: str, spare: str) -> None:
        """Fill both weight slots with these models."""
        self._pool.activate(active)
        self._pool.prefetch(spare)
        self._wait()

    def _switched(self, way: str, name: str) -> SwitchSample:
        switch = self._pool.activate(name)
        if switch is None or switch.prefetched != (way == "prefetched"):
            raise RuntimeError(f"a {way} switch to {name} was {switch}")
        return SwitchSample(way, name, switch.seconds, switch.nbytes)

    def _wait(self) -> None:
        if self._device.name != "cpu":
            torch.cuda.synchronize()


def _copy_each(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    with torch.no_grad():
        for tensor, host in pairs:
            tensor.copy_(host)


def _read_files(module: Any, checkpoint: Path) -> None:  # noqa: ANN401
    with torch.no_grad():
        module.load_weights(_stored(checkpoint))
        pack_again(module)


def _stored(checkpoint: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                yield name, stored.get_tensor(name)
