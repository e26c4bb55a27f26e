"""The cost models that policies and backends get: a measured fit, or else the roofline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from aegaeon.core import (
    CostModel,
    DecodeCost,
    DeviceSpec,
    ModelCost,
    ModelSpec,
    PrefillCost,
    SwitchCost,
)
from aegaeon.errors import UserError
from profiles.files import FOLDER, folder_with
from profiles.roofline import load_roofline, predict, rank_kv_bytes
from profiles.store import load, profile_path


def cost_model(
    models: Iterable[ModelSpec], device: DeviceSpec, folder: Path | None = None
) -> dict[str, ModelCost]:
    """Return the cost of each model on `device`, by the model's name.

    A model type with a profile for `device` and the model's degree in `folder` (default: the user's
    own profiles, then the committed ones) uses the profile. Any other model type uses the roofline,
    and `source` says so. A folder without a `roofline.json` uses the committed one.

    Raises:
        UserError: a profile or `roofline.json` cannot be used.
    """
    by_type: dict[ModelSpec, ModelCost] = {}
    costs = {}
    for model in models:
        nameless = replace(model, name=model.type)
        if nameless not in by_type:
            name = profile_path(Path(), device.name, model.type, model.tp)
            by_type[nameless] = _cost(nameless, device, folder or folder_with(name))
        costs[model.name] = by_type[nameless]
    return costs


def _cost(spec: ModelSpec, device: DeviceSpec, folder: Path) -> ModelCost:
    prefill, decode, switch, source = _times(spec, device, folder)
    weight_bytes = spec.weight_bytes / spec.tp
    if switch is None:
        # A device copy of prefetched weights reads and writes every byte (paper section 5).
        copy_s = 2 * weight_bytes / device.memory_bandwidth
        switch = SwitchCost(weight_bytes / device.link_bandwidth, copy_s)
    return ModelCost(
        prefill=prefill,
        decode=decode,
        switch=switch,
        weight_bytes=weight_bytes,
        kv_bytes_per_token=rank_kv_bytes(spec),
        source=source,
    )


def _times(
    spec: ModelSpec, device: DeviceSpec, folder: Path
) -> tuple[PrefillCost, DecodeCost, SwitchCost | None, str]:
    """Return the three costs and their source; no switch means that nothing measured it."""
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

    Each model draws three factors, for its prefill, decode and switch times; sizes stay true. The
    factors depend on `seed` and on the names, not on the order of `costs`.
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
            prefill=cost.prefill.scaled(prefill),
            decode=cost.decode.scaled(decode),
            switch=cost.switch.scaled(switch),
            source=f"{cost.source}, off by lognormal sigma {sigma:g}" if sigma else cost.source,
        )
    return wrong
