"""Fit what `aegaeon profile` measured: a profile per model type, and the engine's overheads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from aegaeon.core import ModelSpec, Overheads, SwitchCost
from aegaeon.errors import UserError
from profiles.curves import decode_curve, prefill_curve
from profiles.engine_profile import EngineProfile
from profiles.engine_samples import POINT, by_bytes, line, points, typical
from profiles.leastsq import six_digits
from profiles.quality import FOLDS, score
from profiles.store import Profile

SOURCE = "measured on the live engine by `aegaeon profile`"


def fit_type(
    samples: pd.DataFrame, spec: ModelSpec, device: str, machine: Mapping[str, str]
) -> Profile:
    """Fit a model type's profile from its samples; `UserError` if there are too few points."""
    mine = samples[samples["type"] == spec.type]
    prefill, decode = (points(mine, kind) for kind in ("prefill", "decode"))
    if min(len(prefill), len(decode)) <= FOLDS:
        raise UserError(
            f"{spec.type}: {len(prefill)} measured points are too few for a fit; raise "
            "conf/model's max_len or backend.kv_bytes"
        )
    x, z = (table[POINT].to_numpy(dtype=float) for table in (prefill, decode))
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
    """Fit what the engine takes in addition to the steps of `profiles`, all of one device."""
    move_s, byte_s = line(by_bytes(samples, "kv_in"))
    changed = by_bytes(samples, "host")
    switch = line(changed) if len(changed) else (0.0, byte_s)
    overheads = Overheads(
        send_s=typical(samples, "send"),
        hand_over_s=typical(samples, "hand_over"),
        admit_prefill_s=_admit(samples, "prefill"),
        admit_decode_s=_admit(samples, "decode"),
        turn_s=typical(samples, "overhead"),
        kv_move_s=move_s,
        crowd_prefill=_crowding(samples, "prefill"),
        crowd_decode=_crowding(samples, "decode"),
        inline_copies=inline_copies,
    )
    prefill_s, decode_s = (_wake(samples, s, profiles, overheads) for s in ("prefill", "decode"))
    overheads = replace(overheads, wake_prefill_s=prefill_s, wake_decode_s=decode_s)
    link = six_digits(1 / byte_s)
    return EngineProfile(profiles[0].device, overheads, link, *switch, machine)


def _wake(
    samples: pd.DataFrame, stage: str, profiles: Sequence[Profile], known: Overheads
) -> float:
    """Return the seconds that a request on an idle instance takes in excess of all known costs."""
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
                rest = steps * profile.decode.step_s(1, tokens)
                rest += known.admit_decode_s + known.kv_move_s
            more.append(float(seconds) - rest - known.turn_s - _changed(profile, kind))
    return six_digits(max(0.0, float(np.median(more)))) if more else 0.0


def _crowding(samples: pd.DataFrame, stage: str) -> float:
    """Return the slowdown of steps while the neighbours are busy: the median over points."""
    kinds = [f"{stage}_free", f"{stage}_crowd"]
    mine = samples[samples["kind"].isin(kinds) & samples["plays"]]
    if mine.empty:
        return 1.0
    times = mine.groupby(["kind", "instance", "type", *POINT])["seconds"].median().unstack("kind")
    return six_digits(max(1.0, float((times[kinds[1]] / times[kinds[0]]).median())))


def _changed(profile: Profile, kind: str) -> float:
    if profile.switch is None or kind == "alone":
        return 0.0
    return profile.switch.activate_s if kind == "alone_slot" else profile.switch.host_s


def _switch(samples: pd.DataFrame, mine: pd.DataFrame, spec: ModelSpec) -> SwitchCost:
    """Return the cost of changes to the type; without a change from the host, a copy's."""
    slot = typical(mine, "slot")
    if (mine["kind"] == "host").any():
        return SwitchCost(typical(mine, "host"), slot)
    _, byte_s = line(by_bytes(samples, "kv_in"))
    return SwitchCost(six_digits(slot + spec.weight_bytes / spec.tp * byte_s), slot)


def _admit(samples: pd.DataFrame, stage: str) -> float:
    """Return the seconds per admitted request, fitted through the origin."""
    found = points(samples[samples["stage"] == stage], "admit", ["batch"])
    if found.empty:
        return 0.0
    batch, seconds = (found[name].to_numpy(dtype=float) for name in ("batch", "seconds"))
    return six_digits(max(0.0, float((batch * seconds).sum() / (batch * batch).sum())))
