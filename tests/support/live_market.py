"""A market of tiny random models for live runs, and each model's tokens when run alone."""

import os
import time
from pathlib import Path

from aegaeon.core import (
    Arrival,
    DecodeCost,
    Deployment,
    DeviceSpec,
    ModelCost,
    ModelSpec,
    PrefillCost,
    Request,
    Slo,
    SwitchCost,
)
from aegaeon.live.memory.cleanup import find_leftovers
from aegaeon.live.memory.shared import SHARED_MEMORY
from aegaeon.live.preflight.checks import live_fleet

KV_BYTES = 2 << 20
DEVICE = DeviceSpec("cpu", 2e9, 1e10, 5e10, 8e9, 1.0, 1.0)
COST = ModelCost(
    PrefillCost(0.0, 1e-3, 1e-5, 0.0),
    DecodeCost(2e-3, 0.0, 0.0),
    SwitchCost(2e-3, 5e-4),
    1.6e6,
    1024,
)
SHAPES = {
    "tiny-qwen2": {"parameters": 3.3e5, "layers": 2, "kv_heads": 2, "dtype_bytes": 4},
    "tiny-llama": {"parameters": 4.1e5, "layers": 3, "kv_heads": 1, "dtype_bytes": 2},
}


def model(i: int) -> ModelSpec:
    kind = list(SHAPES)[i % 2]
    same = {"hidden": 128, "ffn": 128, "heads": 4, "head_dim": 32, "max_len": 256}
    return ModelSpec(f"m{i}", kind, **same, **SHAPES[kind])


def deployment(models: int, gpus: int) -> Deployment:
    specs = tuple([model(i) for i in range(models)])
    costs = {spec.name: COST for spec in specs}
    return Deployment(DEVICE, gpus, gpus, specs, costs, Slo(0.5, 0.05))


def requests(models: int, count: int, gap_s: float) -> list[Arrival]:
    return [
        Arrival(Request(i, f"m{i % models}", gap_s * i, 3 + 17 * i % 90), 1 + 13 * i % 40)
        for i in range(count)
    ]


def serve(system, plan: Deployment, wanted, options, folder: Path, **rest):
    """Run a workload on live engines; return what the controller did."""
    from aegaeon.live.backend import run_live

    fleet = live_fleet(system, plan, options)
    return run_live(system, plan, fleet, wanted, options, folder, **rest)


def alone(plan: Deployment, live, folder: Path) -> dict[int, list[int]]:
    """Return every request's tokens, by request number, with a device for each model alone."""
    from aegaeon.live.preflight.checkpoints import DTYPES
    from aegaeon.live.tiny import tiny_model
    from aegaeon.live.vllm.engine import ModelEngineOptions
    from aegaeon.live.vllm.model_engine import ModelEngine
    from tests.support.tiny_node import TinyNode

    node, found = TinyNode(), {}
    for i, spec in enumerate(plan.models):
        pool = node.pool(KV_BYTES)
        options = ModelEngineOptions(
            dtype=DTYPES[spec.dtype_bytes], max_model_len=256, block_size=32
        )
        engine = ModelEngine(spec.name, tiny_model(spec, i).build(folder), pool, options)
        for request in live:
            if request.spec.model == spec.name:
                engine.add("alone", request.prompt, request.params)
                out = found.setdefault(request.spec.id, [])
                while engine.requests:
                    out += [t for o in engine.step(["alone"]).outputs for t in o.token_ids]
    node.close()
    return found


def leftovers() -> set[Path]:
    """Return leftover shared memory: of dead agents and without users, and of vLLM."""
    ours = {found.path for found in find_leftovers() if "-node-" in found.path.name}
    return ours | set(SHARED_MEMORY.glob("psm_*"))


def ours(token: str | None = None, patience_s: float = 10.0) -> list[str]:
    """Return the commands of running processes that a Ray with this token started.

    Waits up to `patience_s` seconds for the processes to end.
    """
    mark = (token or os.environ["RAY_AUTH_TOKEN"]).encode()
    until = time.monotonic() + patience_s
    while left := _with(mark):
        if time.monotonic() > until:
            break
        time.sleep(0.2)
    return left


def _with(token: bytes) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) != os.getpid() and token in (folder / "environ").read_bytes():
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                # A zombie has no command. An earlier test of this session may have left a resource
                # tracker, and a resource tracker ends with the session.
                tracker = "resource_tracker" in command and _parent(folder) == os.getpid()
                found += [command] if command.strip() and not tracker else []
        except OSError:
            continue
    return found


def _parent(folder: Path) -> int:
    return int((folder / "stat").read_text().rpartition(")")[2].split()[1])


def instance_pids(stage: str, token: str | None = None) -> list[int]:
    """Return the process ids of a run's instances of one stage, found by the names of logs."""
    mark = (token or os.environ["RAY_AUTH_TOKEN"]).encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            log = os.readlink(folder / "fd" / "1")
            mine = mark in (folder / "environ").read_bytes()
        except OSError:
            continue
        if mine and log.endswith(f"_{stage}.log"):
            found.append(int(folder.name))
    return found
