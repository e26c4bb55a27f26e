"""Profiles on disk: `<device>/<model type>-tp<k>.json`, checked whenever they are read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aegaeon.core import Curve, interpolated
from aegaeon.errors import UserError

SCHEMA = 1
UNITS = "s"
_OF_CURVES = ("curve", "prompt_s")
FOLDER = Path(__file__).resolve().parent
REFIT = "aegaeon profile fit <latency_profiles.csv>"


@dataclass(frozen=True, slots=True)
class PrefillFit:
    """Seconds of a prefill: max(floor, base + token * sum(len) + token_sq * sum(len ** 2)).

    A measured `curve` over sum(len) takes the place of all but the squares; each prompt after the
    first takes `prompt_s` more.
    """

    floor_s: float
    base_s: float
    token_s: float
    token_sq_s: float
    curve: Curve = ()
    prompt_s: float = 0.0

    def seconds(self, tokens: float, tokens_sq: float, prompts: float = 1) -> float:
        """Predict from the prompts' number, the sum of their lengths and that of their squares."""
        if self.curve:
            flat = interpolated(self.curve, tokens) + self.prompt_s * (prompts - 1)
            return flat + self.token_sq_s * tokens_sq
        linear = self.base_s + self.token_s * tokens + self.token_sq_s * tokens_sq
        return max(self.floor_s, linear)


@dataclass(frozen=True, slots=True)
class DecodeFit:
    """Seconds of a decode step: base + context * sum(len) + request * batch.

    A measured `curve` over the batch takes the place of all but the context.
    """

    base_s: float
    context_s: float
    request_s: float
    curve: Curve = ()

    def seconds(self, batch: float, context: float) -> float:
        """Predict from the batch and the sum of its requests' lengths."""
        if self.curve:
            return interpolated(self.curve, batch) + self.context_s * context
        return self.base_s + self.context_s * context + self.request_s * batch


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a fit predicts its points: R2, and relative errors in and out of sample."""

    points: int
    r2: float
    median_error: float
    p90_error: float
    held_out_median_error: float
    held_out_p90_error: float


@dataclass(frozen=True, slots=True)
class SwitchFit:
    """What a change to a model adds to a turn: from the host, and with prefetched weights."""

    switch_s: float
    activate_s: float


@dataclass(frozen=True, slots=True)
class Profile:
    """Fitted step times of one model type on one device at one tensor-parallel degree.

    `switch` and the fingerprint `machine` are there where the live engine was measured.
    """

    model: str
    device: str
    tp: int
    prefill: PrefillFit
    decode: DecodeFit
    prefill_quality: Quality
    decode_quality: Quality
    max_tokens: int
    max_batch: int
    source: str
    switch: SwitchFit | None = None
    machine: Mapping[str, str] = field(default_factory=dict)

    @property
    def median_error(self) -> float:
        """The worse of the two phases' held-out median relative errors."""
        phases = (self.prefill_quality, self.decode_quality)
        return max(quality.held_out_median_error for quality in phases)


def profile_path(folder: Path, device: str, model: str, tp: int) -> Path:
    """Return where a profile lives; a link variant such as `h800_pcie4` shares its GPU's."""
    return folder / device.partition("_")[0] / f"{model}-tp{tp}.json"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path` by way of a temporary file, the same bytes every time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path, fix: str) -> dict[str, Any]:
    """Read a JSON object; raise `UserError` that names `path` and the command `fix`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; make it with `{fix}`") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); make it again with `{fix}`") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold one JSON object; make it again with `{fix}`")
    return content


def save(profile: Profile, folder: Path = FOLDER) -> Path:
    """Write a profile to its place under `folder` and return its path."""
    content = {
        "schema": SCHEMA,
        "units": UNITS,
        "model": profile.model,
        "device": profile.device,
        "tp": profile.tp,
        "prefill": _affine_or_all(asdict(profile.prefill)),
        "decode": _affine_or_all(asdict(profile.decode)),
        "fit": {
            "prefill": asdict(profile.prefill_quality),
            "decode": asdict(profile.decode_quality),
        },
        "range": {"max_tokens": profile.max_tokens, "max_batch": profile.max_batch},
        "source": profile.source,
    }
    if profile.switch is not None:
        content |= {"switch": asdict(profile.switch), "machine": dict(profile.machine)}
    path = profile_path(folder, profile.device, profile.model, profile.tp)
    write_json(path, content)
    return path


def load(device: str, model: str, tp: int, folder: Path = FOLDER) -> Profile:
    """Read and check the profile of `model` at `tp` on `device`; raise `UserError` if unfit."""
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
            raise _unfit(path, f"`{key}` must be {value!r} in this place, found {found!r}")
    try:
        profile = Profile(
            **{key: content[key] for key in ("model", "device", "tp", "source")},
            prefill=PrefillFit(**_with_curve(path, "prefill", content["prefill"])),
            decode=DecodeFit(**_with_curve(path, "decode", content["decode"])),
            prefill_quality=Quality(**content["fit"]["prefill"]),
            decode_quality=Quality(**content["fit"]["decode"]),
            **content["range"],
            switch=SwitchFit(**content["switch"]) if "switch" in content else None,
            machine=content.get("machine", {}),
        )
    except (KeyError, TypeError) as error:
        raise _unfit(path, f"it lacks a key or has one too many: {error}") from error
    _check(path, profile)
    return profile


def _check(path: Path, profile: Profile) -> None:
    """Refuse coefficients that no device can have."""
    fits = {"prefill": asdict(profile.prefill), "decode": asdict(profile.decode)}
    if profile.switch is not None:
        fits["switch"] = asdict(profile.switch)
    for phase, fit in fits.items():
        for key, value in fit.items():
            for number in sum(value, ()) if key == "curve" else (value,):
                if isinstance(number, bool) or not isinstance(number, int | float):
                    raise _unfit(path, f"`{phase}.{key}` must be a number, found {number!r}")
                if not math.isfinite(number) or number < 0:
                    raise _unfit(path, f"`{phase}.{key}` must be finite and >= 0, found {number}")
    lengths = (1, 2048, 8192)
    prefill = [profile.prefill.seconds(n, n * n) for n in lengths]
    context = [profile.decode.seconds(1, n) for n in lengths]
    batch = [profile.decode.seconds(n, 0) for n in (1, 64, 256)]
    for what, times in (("prefill", prefill), ("decode", context), ("decode", batch)):
        if times[0] <= 0:
            raise _unfit(path, f"the smallest {what} must take time, predicted {times[0]} s")
        # A measured grid of small models may show no growth; what is inferred has a lower bound.
        grows = times[0] < times[1] < times[2]
        if not grows and (profile.switch is None or what == "prefill"):
            raise _unfit(path, f"{what} times must grow with the load, predicted {times} s")


def _affine_or_all(fit: dict[str, Any]) -> dict[str, Any]:
    return fit if fit["curve"] else {k: v for k, v in fit.items() if k not in _OF_CURVES}


def _with_curve(path: Path, phase: str, fit: dict[str, Any]) -> dict[str, Any]:
    """Turn a curve's lists into the points that it consists of; refuse what is none."""
    if "curve" not in fit:
        return fit
    points = tuple([tuple(point) for point in fit["curve"]])
    places = [point[0] for point in points if len(point) == 2]
    if len(points) < 2 or len(places) < len(points) or sorted(set(places)) != places:
        raise _unfit(path, f"`{phase}.curve` must hold two points or more, the first number rising")
    return fit | {"curve": points}


def _unfit(path: Path, why: str) -> UserError:
    return UserError(f"{path}: {why}; make it again with `{REFIT}`")
