"""Profiles on disk: `<device>/<model type>-tp<k>.json`, checked whenever they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aegaeon.core import DecodeCost, PrefillCost, SwitchCost
from profiles.files import FOLDER, SCHEMA, UNITS, check_number, read_json, unfit, write_json
from profiles.quality import Quality

REFIT = "aegaeon profile fit <latency_profiles.csv>"
_OF_CURVES = ("curve", "prompt_s")


@dataclass(frozen=True, slots=True)
class Profile:
    """Fitted step times of one model type on one device at one tensor-parallel degree.

    A profile of the live engine also has `switch` and the fingerprint `machine`.
    """

    model: str
    device: str
    tp: int
    prefill: PrefillCost
    decode: DecodeCost
    prefill_quality: Quality
    decode_quality: Quality
    max_tokens: int
    max_batch: int
    source: str
    switch: SwitchCost | None = None
    machine: Mapping[str, str] = field(default_factory=dict)

    @property
    def median_error(self) -> float:
        """The held-out median relative error of the worse phase."""
        phases = (self.prefill_quality, self.decode_quality)
        return max(quality.held_out_median_error for quality in phases)


def profile_path(folder: Path, device: str, model: str, tp: int) -> Path:
    """Return a profile's path; a variant of a host link (`h800_pcie4`) shares its GPU's profile."""
    return folder / device.partition("_")[0] / f"{model}-tp{tp}.json"


def save(profile: Profile, folder: Path = FOLDER) -> Path:
    """Write a profile to its place under `folder` and return its path."""
    content = {
        "schema": SCHEMA,
        "units": UNITS,
        "model": profile.model,
        "device": profile.device,
        "tp": profile.tp,
        "prefill": _phase_content(profile.prefill),
        "decode": _phase_content(profile.decode),
        "fit": {
            "prefill": asdict(profile.prefill_quality),
            "decode": asdict(profile.decode_quality),
        },
        "range": {"max_tokens": profile.max_tokens, "max_batch": profile.max_batch},
        "source": profile.source,
    }
    if profile.switch is not None:
        content |= {"switch": _switch_content(profile.switch), "machine": dict(profile.machine)}
    path = profile_path(folder, profile.device, profile.model, profile.tp)
    write_json(path, content)
    return path


def load(device: str, model: str, tp: int, folder: Path = FOLDER) -> Profile:
    """Read and check the profile of `model` at `tp` on `device`; `UserError` if it is unfit."""
    path = profile_path(folder, device, model, tp)
    content = read_json(path, REFIT)
    expected = {
        "schema": SCHEMA,
        "units": UNITS,
        "model": model,
        "device": device.partition("_")[0],
        "tp": tp,
    }
    for key, value in expected.items():
        if content.get(key) != value:
            found = content.get(key)
            raise unfit(path, f"`{key}` must be {value!r} in this place, found {found!r}", REFIT)
    try:
        profile = Profile(
            **{key: content[key] for key in ("model", "device", "tp", "source")},
            prefill=PrefillCost(**_with_curve(path, "prefill", content["prefill"])),
            decode=DecodeCost(**_with_curve(path, "decode", content["decode"])),
            prefill_quality=Quality(**content["fit"]["prefill"]),
            decode_quality=Quality(**content["fit"]["decode"]),
            **content["range"],
            switch=_switch(**content["switch"]) if "switch" in content else None,
            machine=content.get("machine", {}),
        )
    except (KeyError, TypeError) as error:
        raise unfit(path, f"it lacks a key or has one too many: {error}", REFIT) from error
    _check_numbers(path, profile)
    _check_times(path, profile)
    return profile


def _phase_content(cost: PrefillCost | DecodeCost) -> dict[str, Any]:
    """Return a phase's fields; those of curves only if there is a curve."""
    fields = asdict(cost)
    return fields if cost.curve else {k: v for k, v in fields.items() if k not in _OF_CURVES}


def _switch_content(cost: SwitchCost) -> dict[str, float]:
    return {"switch_s": cost.host_s, "activate_s": cost.activate_s}


def _switch(switch_s: float, activate_s: float) -> SwitchCost:
    return SwitchCost(host_s=switch_s, activate_s=activate_s)


def _with_curve(path: Path, phase: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return a phase's fields with a curve's lists as tuples; `UserError` if it is no curve."""
    if "curve" not in content:
        return content
    points = tuple([tuple(point) for point in content["curve"]])
    places = [point[0] for point in points if len(point) == 2]
    if len(points) < 2 or len(places) < len(points) or sorted(set(places)) != places:
        why = f"`{phase}.curve` must hold two points or more, the first number rising"
        raise unfit(path, why, REFIT)
    return content | {"curve": points}


def _check_numbers(path: Path, profile: Profile) -> None:
    parts = {"prefill": asdict(profile.prefill), "decode": asdict(profile.decode)}
    if profile.switch is not None:
        parts["switch"] = _switch_content(profile.switch)
    for part, content in parts.items():
        for key, value in content.items():
            for number in sum(value, ()) if key == "curve" else (value,):
                check_number(number, f"{part}.{key}", path, REFIT)


def _check_times(path: Path, profile: Profile) -> None:
    """Refuse coefficients that no device can have: times of nothing, or that do not grow."""
    lengths = (1, 2048, 8192)
    prefill = [profile.prefill.seconds(n, n * n) for n in lengths]
    context = [profile.decode.step_s(1, n) for n in lengths]
    batch = [profile.decode.step_s(n, 0) for n in (1, 64, 256)]
    for what, times in (("prefill", prefill), ("decode", context), ("decode", batch)):
        if times[0] <= 0:
            raise unfit(path, f"the smallest {what} must take time, predicted {times[0]} s", REFIT)
        # A grid measured with small models may show no growth. Other fits have a lower bound.
        grows = times[0] < times[1] < times[2]
        if not grows and (profile.switch is None or what == "prefill"):
            raise unfit(path, f"{what} times must grow with the load, predicted {times} s", REFIT)
