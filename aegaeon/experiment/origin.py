"""What a row says of its settings: the mix of models, the origin of their costs, and more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aegaeon.core import CostModel, DeviceSpec, ModelSpec
from aegaeon.results.config_hash import point_hash
from aegaeon.results.inputs import input_digests
from profiles.cost import cost_model

# A row that serves no request uses no costs.
NO_COSTS = "none"
# The first word of `ModelCost.source`, and more.
_PROFILE = "profile"


def mix(types: Mapping[str, str], shares: Mapping[str, int]) -> str:
    """Return the model types with their shares of the market, as `2 llama2-13b, 6 qwen2.5-7b`.

    `types` and `shares` are by the configuration's name of a type.
    """
    return ", ".join(f"{shares[key]} {types[key]}" for key in sorted(types, key=types.__getitem__))


def origin_of(costs: CostModel, types: Mapping[str, str]) -> str:
    """Return the origin of a market's costs: `profile`, `roofline`, or one of each with its types.

    `types` maps a model's name to the model's type.
    """
    found: dict[str, set[str]] = {}
    for name, cost in costs.items():
        found.setdefault(cost.source.split()[0], set()).add(types.get(name, name))
    if len(found) == 1:
        return next(iter(found))
    rest = sorted(set(found) - {_PROFILE})
    named = [f"{kind}: {', '.join(sorted(found[kind]))}" for kind in rest]
    return "; ".join([_PROFILE, *named] if _PROFILE in found else named)


def described(settings: Mapping[str, Any]) -> dict[str, object]:
    """Return the columns of an experiment's own row that its settings alone give."""
    models, backend = settings["models"], settings["backend"]
    types = {key: kind["type"] for key, kind in models["types"].items()}
    return {
        "workload": settings["workload"]["name"],
        "mix": mix(types, models["shares"]),
        "misprediction": float(backend.get("misprediction", 0.0)),
        "costs": _costs(settings),
        "overrides": "",
        "point": point_hash(settings, input_digests(settings)),
    }


def _costs(settings: Mapping[str, Any]) -> str:
    """Return the column `costs` without a run."""
    backend = settings["backend"]
    if backend["name"] in ("occupancy", "switch_cost"):
        return NO_COSTS
    if backend.get("calibrate"):
        return "measured"
    specs = [ModelSpec(name=kind["type"], **kind) for kind in settings["models"]["types"].values()]
    costs = cost_model(specs, DeviceSpec(**settings["hardware"]["device"]))
    return origin_of(costs, {spec.name: spec.type for spec in specs})
