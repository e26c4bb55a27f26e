"""Fit step-time profiles to the artifact's latencies: `aegaeon profile fit latency_profiles.csv`.

The paper (appendix A.2) fits prefill and decode times by least squares; we do too, but on relative
errors, with a floor under short prefills, and with no coefficient below what the device's peak
bandwidth and FLOP/s allow, since few measured points are long enough to show those terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from aegaeon.core import DeviceSpec, ModelSpec
from aegaeon.errors import UserError
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
from profiles.leastsq import Array, floored, relative
from profiles.roofline import rank_attention_flops, rank_kv_bytes
from profiles.store import DecodeFit, PrefillFit, Profile, Quality, save

FOLDS = 4

Phase = PrefillFit | DecodeFit


def rounded(values: Array) -> list[float]:
    """Six digits: more than the data hold, few enough to be the same on every machine."""
    return [float(f"{value:.6g}") for value in values.tolist()]


def features(x: Array) -> tuple[Array, Array, Array]:
    """Return batch, sum of lengths and sum of squared lengths for rows (length, batch)."""
    lengths, batch = x.T
    return batch, lengths * batch, lengths**2 * batch


def fit_prefill(x: Array, seconds: Array, token_sq_min: float = 0.0) -> PrefillFit:
    """Fit prefills of equal prompts: x of shape (n, 2) holds their length and number."""
    _, tokens, tokens_sq = features(x)
    columns = np.stack([np.ones_like(tokens), tokens, tokens_sq], axis=1)
    floor, slope = floored(columns, seconds, tokens, np.array([0.0, 0.0, token_sq_min]))
    floor_s, base_s, token_s, token_sq_s = rounded(np.array([floor, *slope]))
    return PrefillFit(floor_s, base_s, token_s, token_sq_s)


def fit_decode(x: Array, seconds: Array, context_min: float = 0.0) -> DecodeFit:
    """Fit decode steps: x of shape (n, 2) holds the mean context and the batch."""
    batch, context, _ = features(x)
    columns = np.stack([np.ones_like(batch), context, batch], axis=1)
    found = relative(columns, seconds, np.array([0.0, context_min, 0.0]))
    base_s, context_s, request_s = rounded(found)
    return DecodeFit(base_s, context_s, request_s)


def predict(fit: Phase, x: Array) -> Array:
    """Return the seconds, shape (n,), that `fit` gives for rows (length, batch)."""
    batch, tokens, tokens_sq = features(x)
    given = (batch, tokens) if isinstance(fit, DecodeFit) else (tokens, tokens_sq, batch)
    return np.array([fit.seconds(*row) for row in zip(*given, strict=True)])


def score(x: Array, y: Array, fitter: Callable[[Array, Array], Phase]) -> Quality:
    """Score `fitter` on its own points and by cross-validation over every fourth point."""
    inside = predict(fitter(x, y), x)
    held = np.empty_like(y)
    fold = np.arange(len(y)) % FOLDS
    for k in range(FOLDS):
        held[fold == k] = predict(fitter(x[fold != k], y[fold != k]), x[fold == k])
    r2 = 1 - ((inside - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    errors = [np.quantile(np.abs(p / y - 1), q) for p in (inside, held) for q in (0.5, 0.9)]
    return Quality(len(y), *(round(float(value), 4) for value in (r2, *errors)))


def fit_profile(rows: pd.DataFrame, spec: ModelSpec, device: DeviceSpec) -> Profile:
    """Fit the valid measurements `rows` of one model on one device (spec.tp ranks)."""
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
