"""Calibrate the roofline's constants against the committed fits, and score the result.

`aegaeon profile roofline` does so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from aegaeon.core import DeviceSpec, ModelSpec
from aegaeon.errors import UserError
from profiles.artifact_table import DEVICES
from profiles.catalogue import load_device, load_model
from profiles.files import FOLDER, SCHEMA, UNITS, write_json
from profiles.leastsq import Array, relative, six_digits
from profiles.roofline import (
    TILE_ROWS,
    Constants,
    collective_bytes,
    matrix_parameters,
    predict,
    rank_attention_flops,
    rank_kv_bytes,
)
from profiles.roofline_table import error_table
from profiles.store import REFIT, Profile, load

PROMPTS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 200)
CONTEXTS = (16, 64, 256, 1024)
MAX_CONTEXT = 4096
# Where the alternation starts: these decide which side of the roof a model's weights are on.
START = Constants(1e-4, 0.9, 0.6, 5e-5, 1e-4, 1e11)
ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """A committed fit with its model (at the fit's tp) and its device."""

    profile: Profile
    spec: ModelSpec
    device: DeviceSpec


def committed(folder: Path = FOLDER) -> list[Pair]:
    """Load the GPUs' profiles under `folder`, in the order of device and file name."""
    pairs = []
    measured = [path for name in DEVICES for path in folder.glob(f"{name}/*-tp*.json")]
    for path in sorted(measured):
        model, _, tp = path.stem.rpartition("-tp")
        spec = replace(load_model(model), tp=int(tp))
        device = load_device(path.parent.name)
        pairs.append(Pair(load(device.name, model, spec.tp, folder), spec, device))
    if not pairs:
        raise UserError(f"{folder} has no profiles to calibrate against; run `{REFIT}` first")
    return pairs


def _grid(batches: Sequence[int]) -> list[tuple[int, int]]:
    return [(b, b * n) for b in batches for n in CONTEXTS if b * n <= MAX_CONTEXT]


def _equations(pair: Pair, constants: Constants) -> tuple[Array, Array]:
    """Return rows (n, 6) and the fit's seconds (n,): the roofline is linear in `_unknowns`.

    `constants` decide which side of the roof the weights are on, and nothing else.
    """
    spec, device, fit = pair.spec, pair.device, pair.profile
    launch = np.array([spec.layers, 0, 0, 0, 2 * spec.layers * (spec.tp > 1), 0], dtype=float)
    read = np.array([0, 1 / device.memory_bandwidth, 0, 0, 0, 0])
    compute = np.array([0, 0, 1 / device.peak_flops, 0, 0, 0])
    request = np.array([0.0, 0, 0, 1, 0, 0])
    token = 2 * matrix_parameters(spec) / spec.tp * compute
    sent = collective_bytes(spec) * np.array([0.0, 0, 0, 0, 0, 1])
    by_memory = spec.weight_bytes / spec.tp * read
    by_tile = TILE_ROWS * token
    weights = max(by_memory, by_tile, key=lambda row: float(row @ _unknowns(constants)))
    rows, seconds = [], []
    for n in PROMPTS:
        time = fit.prefill.seconds(n, n * n)
        linear = n * (token + sent) + n * n * rank_attention_flops(spec) * compute
        rows.append(launch + (linear if time > fit.prefill.floor_s else weights))
        seconds.append(time)
    for batch, context in _grid(BATCHES):
        kv = context * rank_kv_bytes(spec) * read
        rows.append(launch + weights + kv + batch * (token + sent + request))
        seconds.append(fit.decode.step_s(batch, context))
    return np.array(rows), np.array(seconds)


def _unknowns(constants: Constants) -> Array:
    c = constants
    single = (c.layer_s, 1 / c.memory_efficiency, 1 / c.mfu, c.request_s)
    return np.array([*single, c.collective_s, 1 / c.collective_bandwidth])


def calibrate(pairs: Sequence[Pair]) -> Constants:
    """Return the constants with the least relative error over all pairs, six digits each.

    Raises:
        UserError: the pairs do not determine all six constants; pairs with tp > 1 are needed.
    """
    constants = START
    for _ in range(ROUNDS):
        equations = [_equations(pair, constants) for pair in pairs]
        x, y = (np.concatenate(part) for part in zip(*equations, strict=True))
        layer, read, compute, request, collective, sent = relative(x, y).tolist()
        if min(layer, read, compute, request, collective, sent) <= 0:
            raise UserError("the profiles cannot determine the roofline; add measured pairs")
        found = (layer, 1 / read, 1 / compute, request, collective, 1 / sent)
        previous, constants = constants, Constants(*map(six_digits, found))
        if constants == previous:
            break
    return constants


def errors(pair: Pair, constants: Constants) -> tuple[Array, Array]:
    """Return the roofline's relative errors against the fit, for prefills and decode steps."""
    prefill, decode = predict(pair.spec, pair.device, constants)
    fit = pair.profile
    prefills = [prefill.seconds(n, n * n) / fit.prefill.seconds(n, n * n) for n in PROMPTS]
    steps = [decode.step_s(b, c) / fit.decode.step_s(b, c) for b, c in _grid(BATCHES)]
    return np.abs(np.array(prefills) - 1), np.abs(np.array(steps) - 1)


def held_out_errors(pairs: Sequence[Pair]) -> list[dict[str, float]]:
    """Score each pair with constants from the pairs of other devices or degrees."""
    scores = []
    constants: dict[tuple[str, int], Constants] = {}
    for pair in pairs:
        group = (pair.device.name, pair.spec.tp)
        if group not in constants:
            others = [p for p in pairs if (p.device.name, p.spec.tp) != group]
            constants[group] = calibrate(others)
        prefill, decode = errors(pair, constants[group])
        score = {
            "prefill_median_error": np.median(prefill),
            "prefill_p90_error": np.quantile(prefill, 0.9),
            "decode_median_error": np.median(decode),
            "decode_p90_error": np.quantile(decode, 0.9),
        }
        scores.append({key: round(float(value), 4) for key, value in score.items()})
    return scores


def recalibrate(folder: Path = FOLDER) -> str:
    """Write `roofline.json` under `folder`; return the Markdown table of held-out errors."""
    pairs = committed(folder)
    scores = held_out_errors(pairs)
    worse = [max(s["prefill_median_error"], s["decode_median_error"]) for s in scores]
    content = {
        "schema": SCHEMA,
        "units": UNITS,
        "constants": asdict(calibrate(pairs)),
        "median_error": round(float(np.median(worse)), 4),
        "pairs": {
            f"{pair.device.name}/{pair.spec.type}-tp{pair.spec.tp}": score
            for pair, score in zip(pairs, scores, strict=True)
        },
    }
    write_json(folder / "roofline.json", content)
    return error_table(zip([pair.profile for pair in pairs], scores, strict=True))
