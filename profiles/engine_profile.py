"""What the live engine takes on a device beside steps: `<device>/engine.json`.

A policy plans without it; the simulator adds it, and the host link's measured speed, where it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from aegaeon.core import DeviceSpec, Overheads
from aegaeon.errors import UserError
from profiles.store import FOLDER, SCHEMA, UNITS, read_json, write_json

FILE = "engine.json"
MEASURE = "aegaeon profile measure"


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """One engine on one device: its overheads, its link (bytes/s), and what a switch costs.

    A change of model takes `switch_base_s` and `switch_byte_s` per byte of weights.
    """

    device: str
    overheads: Overheads
    kv_bandwidth: float
    switch_base_s: float
    switch_byte_s: float
    machine: Mapping[str, str] = field(default_factory=dict)


def engine_path(folder: Path, device: str) -> Path:
    """Return where a device's engine profile lies."""
    return folder / device / FILE


def save_engine(profile: EngineProfile, folder: Path = FOLDER) -> Path:
    """Write a profile to its place under `folder` and return its path."""
    path = engine_path(folder, profile.device)
    write_json(path, {"schema": SCHEMA, "units": UNITS, **asdict(profile)})
    return path


def load_engine(device: str, folder: Path = FOLDER) -> EngineProfile | None:
    """Read and check a device's engine profile, None if nobody measured it; or UserError."""
    path = engine_path(folder, device)
    if not path.is_file():
        return None
    content = read_json(path, MEASURE)
    try:
        schema, units = content.pop("schema"), content.pop("units")
        overheads = Overheads(**content.pop("overheads"))
        profile = EngineProfile(overheads=overheads, **content)
    except (KeyError, TypeError) as error:
        raise _unfit(path, f"it lacks a key or has one too many: {error}") from error
    if (schema, units, profile.device) != (SCHEMA, UNITS, device):
        raise _unfit(path, f"it must be of schema {SCHEMA}, in {UNITS}, and of {device}")
    numbers = asdict(overheads) | {"switch_base_s": profile.switch_base_s}
    numbers |= {"switch_byte_s": profile.switch_byte_s, "kv_bandwidth": profile.kv_bandwidth}
    for key, value in numbers.items():
        if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise _unfit(path, f"`{key}` must be finite and >= 0, found {value!r}")
    if not profile.kv_bandwidth:
        raise _unfit(path, "`kv_bandwidth` must be greater than 0")
    return profile


def measured_device(device: DeviceSpec, folder: Path | None = None) -> tuple[DeviceSpec, Overheads]:
    """Return `device` with its link as the live engine measured it, and the engine's overheads.

    A device without an engine profile is returned as it is, without overheads.
    """
    profile = load_engine(device.name, folder or FOLDER)
    if profile is None:
        return device, Overheads()
    link = replace(device, pcie_bandwidth=profile.kv_bandwidth, pcie_efficiency=1.0)
    return link, profile.overheads


def _unfit(path: Path, why: str) -> UserError:
    return UserError(f"{path}: {why}; make it again with `{MEASURE}`")
