"""A calibrated roofline: step times of any model on any device from their public numbers.

`aegaeon profile roofline` calibrates the constants against the committed fits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from aegaeon.core import DecodeCost, DeviceSpec, ModelSpec, PrefillCost
from profiles.files import FOLDER, SCHEMA, UNITS, read_json, unfit

RECALIBRATE = "aegaeon profile roofline"
# GEMMs work on tiles of 64 rows, so a smaller batch costs as much: steps on H20 jump at 64 and 128.
TILE_ROWS = 64


@dataclass(frozen=True, slots=True)
class Constants:
    """Numbers that no spec sheet has, calibrated together over all committed fits.

    Attributes:
        layer_s: seconds to launch one layer's kernels, per step.
        memory_efficiency: share of the peak memory bandwidth that reads of weights and KV reach.
        mfu: share of the peak FLOP/s that matrix products reach.
        request_s: seconds of sampling and bookkeeping per request and decode step.
        collective_s: seconds to start one all-reduce (two per layer when tp > 1).
        collective_bandwidth: bytes per second that an all-reduce moves through one rank.
    """

    layer_s: float
    memory_efficiency: float
    mfu: float
    request_s: float
    collective_s: float
    collective_bandwidth: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """The committed constants and their median relative error over all fits."""

    constants: Constants
    median_error: float


def matrix_parameters(spec: ModelSpec) -> float:
    """Return the number of weights that each token is multiplied with: no embeddings."""
    attention = 2 * spec.hidden * (spec.heads + spec.kv_heads) * spec.head_dim
    return float(spec.layers * (attention + 3 * spec.hidden * spec.ffn))


def rank_kv_bytes(spec: ModelSpec) -> int:
    """Return the bytes of KV per token on one rank; ranks in excess of KV heads hold copies."""
    heads = math.ceil(spec.kv_heads / spec.tp)
    return 2 * spec.layers * heads * spec.head_dim * spec.dtype_bytes


def rank_attention_flops(spec: ModelSpec) -> float:
    """Return the FLOP of causal attention on one rank, per square of the prompt's length."""
    return 2.0 * spec.layers * spec.heads * spec.head_dim / spec.tp


def collective_bytes(spec: ModelSpec) -> float:
    """Return the bytes that one rank sends per token: two ring all-reduces per layer."""
    ring = 2 * (spec.tp - 1) / spec.tp
    return 2 * spec.layers * ring * spec.hidden * spec.dtype_bytes


def predict(
    spec: ModelSpec, device: DeviceSpec, constants: Constants
) -> tuple[PrefillCost, DecodeCost]:
    """Return the roofline's coefficients, in seconds, for `spec` on ranks of `device`."""
    flops = device.peak_flops * constants.mfu
    bandwidth = device.memory_bandwidth * constants.memory_efficiency
    token = 2 * matrix_parameters(spec) / spec.tp / flops
    launch = spec.layers * constants.layer_s
    sent = collective_bytes(spec) / constants.collective_bandwidth
    if spec.tp > 1:
        launch += 2 * spec.layers * constants.collective_s
    weights = max(spec.weight_bytes / spec.tp / bandwidth, TILE_ROWS * token)
    prefill = PrefillCost(
        floor_s=launch + weights,
        base_s=launch,
        token_s=token + sent,
        token_sq_s=rank_attention_flops(spec) / flops,
    )
    decode = DecodeCost(
        base_s=launch + weights,
        context_s=rank_kv_bytes(spec) / bandwidth,
        request_s=token + sent + constants.request_s,
    )
    return prefill, decode


def load_roofline(folder: Path = FOLDER) -> Roofline:
    """Read `roofline.json`; raise `UserError` when it is missing or impossible."""
    path = folder / "roofline.json"
    content = read_json(path, RECALIBRATE)
    if (content.get("schema"), content.get("units")) != (SCHEMA, UNITS):
        why = f"`schema` must be {SCHEMA} and `units` {UNITS!r}"
        raise unfit(path, why, RECALIBRATE)
    try:
        constants = Constants(**content["constants"])
        values = [float(getattr(constants, name)) for name in Constants.__slots__]
        roofline = Roofline(constants, float(content["median_error"]))
    except (KeyError, TypeError, ValueError) as error:
        raise unfit(path, f"missing or wrong key {error}", RECALIBRATE) from error
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise unfit(path, "constants must be finite and > 0", RECALIBRATE)
    return roofline
