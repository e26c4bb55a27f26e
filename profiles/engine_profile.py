"""What the live engine takes on a device in addition to steps: `<device>/engine.json`.

Policies plan without the overheads; the simulator adds them, and uses the host link's measured
speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from aegaeon.core import DeviceSpec, Overheads
from profiles.files import (
    FOLDER,
    SCHEMA,
    UNITS,
    check_number,
    folder_with,
    read_json,
    unfit,
    write_json,
)

FILE = "engine.json"
MEASURE = "aegaeon profile measure"


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """One engine on one device: its overheads, its link's bytes per second, its switches.

    A change of model takes `switch_base_s`, and `switch_byte_s` per byte of weights.
    """

    device: str
    overheads: Overheads
    kv_bandwidth: float
    switch_base_s: float
    switch_byte_s: float
    machine: Mapping[str, str] = field(default_factory=dict)


def engine_path(folder: Path, device: str) -> Path:
    """Return the path of a device's engine profile."""
    return folder / device / FILE


def save_engine(profile: EngineProfile, folder: Path = FOLDER) -> Path:
    """Write a profile to its place under `folder` and return its path."""
    path = engine_path(folder, profile.device)
    write_json(path, {"schema": SCHEMA, "units": UNITS, **asdict(profile)})
    return path


def load_engine(device: str, folder: Path = FOLDER) -> EngineProfile | None:
    """Read and check a device's engine profile; None if there is none, `UserError` if unfit."""
    path = engine_path(folder, device)
    if not path.is_file():
        return None
    content = read_json(path, MEASURE)
    try:
        schema, units = content.pop("schema"), content.pop("units")
        overheads = Overheads(**content.pop("overheads"))
        profile = EngineProfile(overheads=overheads, **content)
    except (KeyError, TypeError) as error:
        raise unfit(path, f"it lacks a key or has one too many: {error}", MEASURE) from error
    if (schema, units, profile.device) != (SCHEMA, UNITS, device):
        why = f"it must be of schema {SCHEMA}, in {UNITS}, and of {device}"
        raise unfit(path, why, MEASURE)
    _check(path, profile)
    return profile


def measured_device(device: DeviceSpec, folder: Path | None = None) -> tuple[DeviceSpec, Overheads]:
    """Return `device` with its link as the live engine measured it, and the engine's overheads.

    A device without an engine profile is returned unchanged, without overheads.
    """
    profile = load_engine(device.name, folder or folder_with(engine_path(Path(), device.name)))
    if profile is None:
        return device, Overheads()
    link = replace(device, pcie_bandwidth=profile.kv_bandwidth, pcie_efficiency=1.0)
    return link, profile.overheads


def _check(path: Path, profile: EngineProfile) -> None:
    overheads = asdict(profile.overheads)
    if not isinstance(overheads.pop("inline_copies"), bool):
        raise unfit(path, "`inline_copies` must be true or false", MEASURE)
    speeds = ("kv_bandwidth", "switch_base_s", "switch_byte_s")
    for key, value in (overheads | {name: getattr(profile, name) for name in speeds}).items():
        check_number(value, key, path, MEASURE)
    if not profile.kv_bandwidth:
        raise unfit(path, "`kv_bandwidth` must be greater than 0", MEASURE)
