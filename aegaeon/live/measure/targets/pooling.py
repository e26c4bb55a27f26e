"""One model, no switch: a live instance against vLLM's own engine; bookkeeping per step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aegaeon.core import (
    DecodeCost,
    DeviceSpec,
    InstanceSpec,
    ModelCost,
    PrefillCost,
    Request,
    Stage,
    SwitchCost,
)
from aegaeon.live.events import Event, Failed, Finished, LiveRequest, Ran
from aegaeon.live.instance.device_pool import DevicePool
from aegaeon.live.instance.instance import LiveInstance
from aegaeon.live.measure.targets.engines import device_pool
from aegaeon.live.measure.targets.numbers import Number, in_turns
from aegaeon.live.memory.device import Device
from aegaeon.live.tiny import GREEDY, TinyModel
from aegaeon.live.vllm.alone import LLMEngine, alone
from aegaeon.live.vllm.engine import ModelEngineOptions, sampling_params
from aegaeon.live.vllm.model_engine import ModelEngine
from aegaeon.policy.decode import DecodeScheduler, RoundOptions

OVERHEAD_TARGET = 0.97
SHARE_TARGET = 0.05
REQUESTS = 16
PROMPT, OUTPUT = 32, 48
KV_BYTES = 64 << 20
# 120 MB of weights.
MODEL = TinyModel(
    "bench", "qwen2", layers=5, heads=16, kv_heads=4, head_dim=64, ffn=3072, dtype="bfloat16"
)
_OPTIONS = ModelEngineOptions(dtype="bfloat16", max_model_len=256, block_size=32)
_COST = ModelCost(
    PrefillCost(0.0, 1e-3, 1e-5, 0.0), DecodeCost(5e-3, 0.0, 0.0), SwitchCost(5e-2, 1e-3), 1e6, 1024
)
_ROUND = RoundOptions(tbt_s=0.1, qmax_s=0.2, alpha_floor=0.5, prefetch=True)


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second, by wall time and by this process's CPU time.

    Other processes' load affects CPU time less.
    """

    wall: float
    cpu: float


class _Stopwatch:
    """Starts when created; `speed` is for tokens produced since the start."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began[0]

    def speed(self, tokens: int) -> Speed:
        return Speed(tokens / self.seconds, tokens / (time.process_time() - self._began[1]))


@dataclass
class Pooled:
    """A live instance with one model, `engine`, under Algorithm 2.

    `shares` has each run's time outside engine steps, relative to the time inside; `steps` has each
    run's mean seconds per step.
    """

    pool: DevicePool
    engine: ModelEngine
    events: list[Event] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        device = DeviceSpec("bench", 1e9, 1e9, 1e9, 1e9)
        spec = InstanceSpec(0, Stage.DECODE, device, KV_BYTES, 1e9)
        scheduler = DecodeScheduler({self.engine.name: _COST}, KV_BYTES, _ROUND)
        self._instance = LiveInstance(
            spec,
            scheduler,
            self.pool,
            {self.engine.name: self.engine},
            self.events.extend,
            time.perf_counter,
        )
        self._next = 0

    def throughput(self, prompts: Sequence[Sequence[int]]) -> Speed:
        """Serve the prompts together; raise RuntimeError if a request fails."""
        self.events.clear()
        watch = _Stopwatch()
        for prompt in prompts:
            self._next += 1
            spec = Request(self._next, self.engine.name, 0.0, len(prompt) - 1)
            # The first token comes from another instance, without its KV.
            params = {**GREEDY, "max_tokens": OUTPUT + 1}
            first = (prompt[-1],)
            self._instance.accept(
                LiveRequest(spec, tuple(prompt[:-1]), params, first, due=OUTPUT + 1)
            )
        done = 0
        while done < len(prompts):
            self._instance.run_next()
            done = sum([isinstance(event, Finished) for event in self.events])
            if any(isinstance(event, Failed) for event in self.events):
                raise RuntimeError(f"a request failed: {self.events[-1]}")
        speed = watch.speed(len(prompts) * OUTPUT)
        seconds = len(prompts) * OUTPUT / speed.wall
        pieces = [event for event in self.events if isinstance(event, Ran)]
        busy, steps = sum([p.busy_s for p in pieces]), sum([p.steps for p in pieces])
        self.shares.append((seconds - busy) / busy)
        self.steps.append(busy / steps)
        return speed


def own_throughput(engine: LLMEngine, prompts: Sequence[Sequence[int]]) -> Speed:
    """Serve the prompts together on vLLM alone."""
    params: dict[str, Any] = {**GREEDY, "max_tokens": OUTPUT}
    watch = _Stopwatch()
    for index, prompt in enumerate(prompts):
        given = {"prompt_token_ids": list(prompt)}
        engine.add_request(str(index), given, sampling_params(params, None))
    while engine.has_unfinished_requests():
        engine.step()
    return watch.speed(len(prompts) * OUTPUT)


def one_model(device: Device, folder: Path, rounds: int) -> list[Number]:
    """Return throughput relative to vLLM's, and bookkeeping relative to steps, at 16 requests."""
    path = MODEL.build(folder)
    prompts = [[(31 * i + 7 * j) % 499 + 1 for j in range(PROMPT)] for i in range(REQUESTS)]
    with device_pool(device, slot_bytes=256 << 20, kv_bytes=KV_BYTES) as pool:
        pooled = Pooled(pool, ModelEngine("bench", path, pool, _OPTIONS))
        own, same = (alone(path, _OPTIONS, KV_BYTES, ours) for ours in (False, True))
        ways: dict[str, Callable[[], Speed]] = {
            "pooled": lambda: pooled.throughput(prompts),
            "own": lambda: own_throughput(own, prompts),
            "same": lambda: own_throughput(same, prompts),
        }
        taken = in_turns(ways, rounds)
        pooled.engine.close()
    size = (path / "model.safetensors").stat().st_size / 1e6
    step = statistics.median(pooled.steps) * 1e3
    on = f"{REQUESTS} requests, {size:.0f} MB model, steps of {step:.1f} ms"
    return [
        Number(
            *("throughput / vLLM's, same settings", _ratio(taken, "own")),
            at_least=OVERHEAD_TARGET,
            details=_details(taken, "own"),
        ),
        Number(
            *("throughput / vLLM's on our kernels", _ratio(taken, "same")),
            details=_details(taken, "same"),
        ),
        Number(
            *("scheduler and bookkeeping / step time", statistics.median(pooled.shares)),
            at_most=SHARE_TARGET,
            details=on,
        ),
    ]


def _details(taken: Mapping[str, Sequence[Speed]], base: str) -> str:
    ours, theirs = (statistics.median([s.wall for s in taken[n]]) for n in ("pooled", base))
    by_cpu = f"{_ratio(taken, base, by_cpu=True):.3g} by CPU time"
    return f"{ours:.0f} of {theirs:.0f} tokens/s; {by_cpu}"


def _ratio(taken: Mapping[str, Sequence[Speed]], base: str, by_cpu: bool = False) -> float:
    pairs = zip(taken["pooled"], taken[base], strict=True)
    return statistics.median([a.cpu / b.cpu if by_cpu else a.wall / b.wall for a, b in pairs])
