"""What policies and backends are told that models cost: a measured fit, or else the roofline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from aegaeon.core import CostModel, DeviceSpec, ModelCost, ModelSpec
from aegaeon.errors import UserError
from profiles.roofline import load_roofline, predict, rank_kv_bytes
from profiles.store import FOLDER, DecodeFit, PrefillFit, SwitchFit, load, profile_path


def cost_model(
    models: Iterable[ModelSpec], device: DeviceSpec, folder: Path | None = None
) -> dict[str, ModelCost]:
    """Return the cost of each model on `device`, by the model's name.

    A pair of device and model type with a profile in `folder` (default: the committed ones) at
    the model's degree uses it; any other pair uses the roofline, and says so in `source`. A folder
    without a `roofline.json` gets the committed one.

    Raises:
        UserError: a profile or `roofline.json` cannot be used.
    """
    by_type: dict[ModelSpec, ModelCost] = {}
    costs = {}
    for model in models:
        nameless = replace(model, name=model.type)
        if nameless not in by_type:
            by_type[nameless] = _cost(nameless, device, folder or FOLDER)
        costs[model.name] = by_type[nameless]
    return costs


def _cost(spec: ModelSpec, device: DeviceSpec, folder: Path) -> ModelCost:
    prefill, decode, switch, source = _times(spec, device, folder)
    weight_bytes = spec.weight_bytes / spec.tp
    if switch is None:
        # A device copy of prefetched weights reads and writes every byte (paper section 5).
        copy_s = 2 * weight_bytes / device.memory_bandwidth
        switch = SwitchFit(weight_bytes / device.link_bandwidth, copy_s)
    return ModelCost(
        prefill_floor_s=prefill.floor_s,
        prefill_base_s=prefill.base_s,
        prefill_token_s=prefill.token_s,
        prefill_token_sq_s=prefill.token_sq_s,
        decode_base_s=decode.base_s,
        decode_context_s=decode.context_s,
        decode_request_s=decode.request_s,
        switch_s=switch.switch_s,
        activate_s=switch.activate_s,
        weight_bytes=weight_bytes,
        kv_bytes_per_token=rank_kv_bytes(spec),
        source=source,
        prefill_curve=prefill.curve,
        prefill_prompt_s=prefill.prompt_s,
        decode_curve=decode.curve,
    )


def _times(
    spec: ModelSpec, device: DeviceSpec, folder: Path
) -> tuple[PrefillFit, DecodeFit, SwitchFit | None, str]:
    path = profile_path(folder, device.name, spec.type, spec.tp)
    if path.is_file():
        fit = load(device.name, spec.type, spec.tp, folder)
        source = f"profile {path.parent.name}/{path.stem} (median error {fit.median_error:.1%})"
        return fit.prefill, fit.decode, fit.switch, source
    roofline = load_roofline(folder if (folder / "roofline.json").is_file() else FOLDER)
    source = f"roofline (median error {roofline.median_error:.1%})"
    return *predict(spec, device, roofline.constants), None, source


def perturbed(costs: CostModel, sigma: float, seed: int) -> dict[str, ModelCost]:
    """Return costs that are wrong by lognormal factors exp(sigma * N(0, 1)), for experiments.

    Each model draws three factors, for its prefill, decode and switch times; sizes stay true.
    The same `seed` gives the same factors whatever the order of `costs`.
    """
    if sigma < 0:
        raise UserError(f"sigma of mis-predicted costs must be >= 0, got {sigma}; 0 is exact")
    random = np.random.default_rng(seed)
    wrong = {}
    for name in sorted(costs):
        prefill, decode, switch = np.exp(sigma * random.standard_normal(3)).tolist()
        cost = costs[name]
        wrong[name] = replace(
            cost,
            prefill_floor_s=cost.prefill_floor_s * prefill,
            prefill_base_s=cost.prefill_base_s * prefill,
            prefill_token_s=cost.prefill_token_s * prefill,
            prefill_token_sq_s=cost.prefill_token_sq_s * prefill,
            decode_base_s=cost.decode_base_s * decode,
            decode_context_s=cost.decode_context_s * decode,
            decode_request_s=cost.decode_request_s * decode,
            switch_s=cost.switch_s * switch,
            activate_s=cost.activate_s * switch,
            prefill_curve=tuple([(n, s * prefill) for n, s in cost.prefill_curve]),
            prefill_prompt_s=cost.prefill_prompt_s * prefill,
            decode_curve=tuple([(n, s * decode) for n, s in cost.decode_curve]),
            source=f"{cost.source}, off by lognormal sigma {sigma:g}" if sigma else cost.source,
        )
    return wrong
