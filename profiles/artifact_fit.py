"""Fit step-time profiles to the artifact's latencies: `aegaeon profile fit latency_profiles.csv`.

The device's peak bandwidth and FLOP/s give lower bounds for the costs of a long context and of a
long prompt: few measured points are long enough to show those terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from aegaeon.core import DeviceSpec, ModelSpec
from aegaeon.errors import UserError
from profiles.affine import fit_decode, fit_prefill
from profiles.artifact_table import (
    DECODE,
    DEVICES,
    MEAN_GENERATED,
    MIN_LONGEST,
    PREFILL,
    SOURCE,
    TYPES,
    read_measurements,
)
from profiles.catalogue import load_device, load_model
from profiles.quality import score
from profiles.roofline import rank_attention_flops, rank_kv_bytes
from profiles.store import Profile, save


def fit_profile(rows: pd.DataFrame, spec: ModelSpec, device: DeviceSpec) -> Profile:
    """Fit the valid measurements `rows` of one model on `spec.tp` ranks of one device."""
    rows = rows.sort_values(["input_len", "batch_size"])
    x = rows[["input_len", "batch_size"]].to_numpy(dtype=float)
    contexts = x + np.array([MEAN_GENERATED, 0])
    prefill_s, decode_s = (rows[column].to_numpy(dtype=float) for column in (PREFILL, DECODE))
    token_sq_min = rank_attention_flops(spec) / device.peak_flops
    context_min = rank_kv_bytes(spec) / device.memory_bandwidth
    prefill = partial(fit_prefill, token_sq_min=token_sq_min)
    decode = partial(fit_decode, context_min=context_min)
    return Profile(
        model=spec.type,
        device=device.name,
        tp=spec.tp,
        prefill=prefill(x, prefill_s),
        decode=decode(contexts, decode_s),
        prefill_quality=score(x, prefill_s, prefill),
        decode_quality=score(contexts, decode_s, decode),
        max_tokens=int((x[:, 0] * x[:, 1]).max()),
        max_batch=int(x[:, 1].max()),
        source=SOURCE,
    )


def fit_table(
    table: Path, out: Path, models: Sequence[str] = (), devices: Sequence[str] = ()
) -> list[Path]:
    """Fit every measured pair of `models` and `devices` (all if empty), at every degree.

    Write the profiles below `out`, print each with its error, and return the files. The error is
    the worse phase's held-out median error. Raises UserError for an unknown name.
    """
    rows = read_measurements(table)
    rows = rows[_chosen(rows["model"], models, sorted(TYPES.values()), "--model")]
    rows = rows[_chosen(rows["device"], devices, DEVICES, "--device")]
    written = []
    for (model, device, tp), points in rows.groupby(["model", "device", "tp"]):
        longest = int(points["input_len"].max())
        if longest < MIN_LONGEST:
            print(f"skipped {model} on {device}, tp {tp}: no prompt longer than {longest} tokens")
            continue
        spec = replace(load_model(str(model)), tp=int(str(tp)))
        profile = fit_profile(points, spec, load_device(str(device)))
        written.append(save(profile, out))
        print(f"{written[-1]}: {len(points)} points, error {profile.median_error:.1%}")
    if not written:
        raise UserError(f"{table} has no usable rows of these models and devices; choose others")
    return written


def _chosen(
    column: pd.Series[str], names: Sequence[str], known: Sequence[str], option: str
) -> pd.Series[bool]:
    """Return which rows of `column` hold one of `names`, or a known name if there are none."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"{option}: unknown {unknown[0]}; known: {', '.join(known)}")
    return column.isin(list(names or known))
