"""Weight switches against one memcpy of the same bytes: `aegaeon bench memory`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from aegaeon.live.memory.device import Device, open_device
from aegaeon.live.memory.shared import SharedDirectory
from aegaeon.live.memory.weight_arena import WeightArena
from aegaeon.live.memory.weight_cache import HostWeights, WeightCache
from aegaeon.live.memory.weight_layout import WeightLayout

WIDTH = 512
# Three models in two slots, so that a model is prefetched to another slot each time.
MODELS = ("a", "b", "c")
SWITCH_TARGET = 1.15
PREFETCHED_TARGET = 0.2


@dataclass(frozen=True, slots=True)
class SwitchTimes:
    """Median seconds of interleaved repeats in which `nbytes` of weights reach the device."""

    nbytes: int
    memcpy_s: float
    switch_s: float
    prefetched_s: float

    @property
    def switch_ratio(self) -> float:
        """The time of a switch from the host copy, relative to the memcpy."""
        return self.switch_s / self.memcpy_s

    @property
    def prefetched_ratio(self) -> float:
        """The time of a switch to a prefetched model, relative to the memcpy."""
        return self.prefetched_s / self.memcpy_s


def measure(device: Device, nbytes: int, repeats: int) -> SwitchTimes:
    """Return the median times of switches among modules of about `nbytes` each.

    Each of `repeats` rounds measures all three ways.
    """
    with SharedDirectory.create("bench") as shared:
        cache = WeightCache(shared, 4 * nbytes + (64 << 20), device)
        plain, fetched = (_Setup(device, cache, nbytes, slots) for slots in (1, 2))
        target = device.reserve(plain.hosts["a"].bytes.numel())
        samples: list[tuple[float, ...]] = []
        for index in range(repeats + 1):
            model = MODELS[index % len(MODELS)]
            host = plain.hosts[model].bytes
            fetched.arena.prefetch(model, fetched.hosts[model].bytes).synchronize()
            ways = (
                lambda host=host: device.compute().copy(target, host),
                lambda model=model, host=host: plain.arena.switch(model, host),
                lambda model=model, host=host: fetched.arena.switch(model, host),
            )
            # The first way of a round finds colder caches, so the order rotates.
            order = [(index // len(MODELS) + shift) % len(ways) for shift in range(len(ways))]
            times = {way: _seconds(device, ways[way]) for way in order}
            samples.append(tuple([times[way] for way in range(len(ways))]))
        size = target.numel()
        plain.close()
        fetched.close()
    # The first round is dropped, because pages are slow when first touched.
    return SwitchTimes(size, *[statistics.median(way) for way in zip(*samples[1:], strict=True)])


class _Setup:
    """Modules of one layout, and the arena that they are bound to."""

    def __init__(self, device: Device, cache: WeightCache, nbytes: int, slots: int) -> None:
        layers = max(1, nbytes // (4 * WIDTH * WIDTH))
        modules = {model: _module(device, layers) for model in MODELS}
        layout = WeightLayout.of(modules["a"])
        self.arena = WeightArena(device, layout.nbytes, slots)
        self.hosts: dict[str, HostWeights] = {}
        for model, module in modules.items():
            self.hosts[model] = cache.put(f"bench-{model}", layout, layout.pack(module))
            self.arena.bind(model, module, layout)
        self._modules = modules

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()


def _module(device: Device, layers: int) -> torch.nn.Module:
    linears = [torch.nn.Linear(WIDTH, WIDTH) for _ in range(layers)]
    return torch.nn.Sequential(*linears).to(device.name)


def _seconds(device: Device, work: Callable[[], object]) -> float:
    device.compute().record().synchronize()
    start = time.perf_counter()
    work()
    device.compute().record().synchronize()
    return time.perf_counter() - start


def report(device: str, megabytes: int, repeats: int) -> None:
    """Print times, bandwidths and ratios to the memcpy, with the targets.

    Raises UserError for a device that is not there.
    """
    times = measure(open_device(device), megabytes << 20, repeats)
    gigabytes = times.nbytes / 1e9
    print(f"{device}, {gigabytes:.3f} GB of weights, median of {repeats}")
    print(f"memcpy      {times.memcpy_s * 1e3:8.2f} ms  {gigabytes / times.memcpy_s:6.1f} GB/s")
    rows = (
        ("switch", times.switch_s, times.switch_ratio, SWITCH_TARGET),
        ("prefetched", times.prefetched_s, times.prefetched_ratio, PREFETCHED_TARGET),
    )
    for name, seconds, ratio, target in rows:
        verdict = "ok" if ratio <= target else "MISSED"
        print(f"{name:10}  {seconds * 1e3:8.2f} ms  {ratio:6.3f} x memcpy (<= {target}: {verdict})")
