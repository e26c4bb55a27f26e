"""Fit what `aegaeon profile` measured: a profile per model type, and the engine's.

Samples are rows of `COLUMNS`; while an instance measures, the others are idle unless the kind says
`_crowd`. A time is the mean over instances of the median over rounds and models of a type; what an
instance never does in a run (`plays` is false) does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from aegaeon.core import ModelSpec, Overheads
from aegaeon.errors import UserError
from profiles.artifact_fit import FOLDS, score
from profiles.curves import decode_curve, prefill_curve
from profiles.engine_profile import EngineProfile
from profiles.leastsq import relative
from profiles.store import Profile, SwitchFit

COLUMNS = (
    *("instance", "plays", "kind", "stage", "type"),
    *("tokens", "batch", "steps", "nbytes", "seconds"),
)
SOURCE = "measured on the live engine by `aegaeon profile`"
_POINT = ["tokens", "batch"]


def points(samples: pd.DataFrame, kind: str, by: list[str] | None = None) -> pd.DataFrame:
    """Return one row per point (columns `by`, default tokens and batch) with its `seconds`."""
    by = by or _POINT
    mine = samples[(samples["kind"] == kind) & samples["plays"]]
    each = mine.groupby([*by, "instance"])["seconds"].median()
    return each.groupby(level=by).mean().reset_index()


def fit_type(
    samples: pd.DataFrame, spec: ModelSpec, device: str, machine: Mapping[str, str]
) -> Profile:
    """Fit one model type's profile from its samples; raise `UserError` if they are too few."""
    mine = samples[samples["type"] == spec.type]
    prefill, decode = (points(mine, kind) for kind in ("prefill", "decode"))
    if min(len(prefill), len(decode)) <= FOLDS:
        raise UserError(
            f"{spec.type}: {len(prefill)} measured points are too few for a fit; raise "
            "conf/model's max_len or backend.kv_bytes"
        )
    x, z = (table[_POINT].to_numpy(dtype=float) for table in (prefill, decode))
    y, w = (table["seconds"].to_numpy(dtype=float) for table in (prefill, decode))
    return Profile(
        model=spec.type,
        device=device,
        tp=spec.tp,
        prefill=prefill_curve(x, y),
        decode=decode_curve(z, w),
        prefill_quality=score(x, y, prefill_curve),
        decode_quality=score(z, w, decode_curve),
        max_tokens=int((z[:, 0] * z[:, 1]).max()),
        max_batch=int(z[:, 1].max()),
        source=SOURCE,
        switch=_switch(samples, mine, spec),
        machine=machine,
    )


def fit_engine(
    samples: pd.DataFrame,
    profiles: Sequence[Profile],
    machine: Mapping[str, str],
    inline_copies: bool,
) -> EngineProfile:
    """Fit what the engine takes beside the steps of `profiles`, which are of one device."""
    moved = points(samples, "kv_in", ["nbytes"])
    move_s, byte_s = _line(moved["nbytes"], moved["seconds"])
    changed = points(samples, "host", ["nbytes"])
    switch = _line(changed["nbytes"], changed["seconds"]) if len(changed) else (0.0, byte_s)
    overheads = Overheads(
        send_s=_typical(samples, "send"),
        hand_over_s=_typical(samples, "hand_over"),
        admit_prefill_s=_admit(samples, "prefill"),
        admit_decode_s=_admit(samples, "decode"),
        turn_s=_typical(samples, "overhead"),
        kv_move_s=move_s,
        crowd_prefill=_crowding(samples, "prefill"),
        crowd_decode=_crowding(samples, "decode"),
        inline_copies=inline_copies,
    )
    prefill_s, decode_s = (_wake(samples, s, profiles, overheads) for s in ("prefill", "decode"))
    overheads = replace(overheads, wake_prefill_s=prefill_s, wake_decode_s=decode_s)
    link = float(f"{1 / byte_s:.6g}")
    return EngineProfile(profiles[0].device, overheads, link, *switch, machine)


def _wake(
    samples: pd.DataFrame, stage: str, profiles: Sequence[Profile], known: Overheads
) -> float:
    """Return what a request on an idle instance takes more than all that is known of it."""
    alone = samples[samples["kind"].str.startswith("alone") & (samples["stage"] == stage)]
    more = []
    for profile in profiles:
        mine = alone[alone["type"] == profile.model]
        for kind, tokens, steps, seconds in zip(
            *(mine[name] for name in ("kind", "tokens", "steps", "seconds")), strict=True
        ):
            if stage == "prefill":
                rest = profile.prefill.seconds(tokens, tokens**2) + known.admit_prefill_s
            else:
                rest = steps * profile.decode.seconds(1, tokens)
                rest += known.admit_decode_s + known.kv_move_s
            more.append(float(seconds) - rest - known.turn_s - _changed(profile, kind))
    return _rounded(max(0.0, float(np.median(more)))) if more else 0.0


def _crowding(samples: pd.DataFrame, stage: str) -> float:
    """Return the median over points of steps beside others at work, relative to steps alone."""
    kinds = [f"{stage}_free", f"{stage}_crowd"]
    mine = samples[samples["kind"].isin(kinds) & samples["plays"]]
    if mine.empty:
        return 1.0
    times = mine.groupby(["kind", "instance", "type", *_POINT])["seconds"].median().unstack("kind")
    return _rounded(max(1.0, float((times[kinds[1]] / times[kinds[0]]).median())))


def _changed(profile: Profile, kind: str) -> float:
    if profile.switch is None or kind == "alone":
        return 0.0
    return profile.switch.activate_s if kind == "alone_slot" else profile.switch.switch_s


def _switch(samples: pd.DataFrame, mine: pd.DataFrame, spec: ModelSpec) -> SwitchFit:
    """Return what changes to the type took; where all weights stayed, a copy is estimated."""
    slot = _typical(mine, "slot")
    if (mine["kind"] == "host").any():
        return SwitchFit(_typical(mine, "host"), slot)
    moved = points(samples, "kv_in", ["nbytes"])
    _, byte_s = _line(moved["nbytes"], moved["seconds"])
    return SwitchFit(_rounded(slot + spec.weight_bytes / spec.tp * byte_s), slot)


def _typical(samples: pd.DataFrame, kind: str) -> float:
    """Return the median seconds of a kind, 0 where nothing was measured."""
    seconds = samples.loc[(samples["kind"] == kind) & samples["plays"], "seconds"]
    return _rounded(max(0.0, float(seconds.median()))) if len(seconds) else 0.0


def _admit(samples: pd.DataFrame, stage: str) -> float:
    """Return the seconds per request taken in, fitted through the origin."""
    found = points(samples[samples["stage"] == stage], "admit", ["batch"])
    if found.empty:
        return 0.0
    batch, seconds = (found[name].to_numpy(dtype=float) for name in ("batch", "seconds"))
    return _rounded(max(0.0, float((batch * seconds).sum() / (batch * batch).sum())))


def _line(sizes: pd.Series[float], seconds: pd.Series[float]) -> tuple[float, float]:
    """Return the fixed seconds and those per byte, neither below 0."""
    x = np.stack([np.ones(len(sizes)), sizes.to_numpy(dtype=float)], axis=1)
    base, slope = relative(x, np.array(seconds, dtype=np.float64)).tolist()
    # Where the fixed part hides it, a byte still takes time: say a hundredth of the whole.
    return _rounded(base), _rounded(slope or float((seconds / sizes).min()) / 100)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
