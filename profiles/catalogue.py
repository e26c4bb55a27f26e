"""The catalogue of model types and devices, read from the Hydra groups `model` and `device`."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from aegaeon.core import DeviceSpec, ModelSpec
from aegaeon.errors import UserError
from aegaeon.paths import CONF


def _entry(group: str, name: str) -> dict[Any, Any]:
    path = CONF / group / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise UserError(f"conf/{group}/{name}.yaml does not exist; choose one of {known} or add it")
    entry = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    if not isinstance(entry, dict):
        raise UserError(f"conf/{group}/{name}.yaml must be a mapping of fields to values")
    return entry


def load_model(model_type: str, name: str | None = None) -> ModelSpec:
    """Return `conf/model/<model_type>.yaml` as a model with `name`, by default its type."""
    entry = _entry("model", model_type)
    try:
        return ModelSpec(name=name or model_type, **entry)
    except (TypeError, ValueError) as error:
        raise UserError(f"conf/model/{model_type}.yaml: {error}; correct that field") from error


def load_device(name: str) -> DeviceSpec:
    """Return `conf/device/<name>.yaml`."""
    entry = _entry("device", name)
    try:
        return DeviceSpec(**entry)
    except (TypeError, ValueError) as error:
        raise UserError(f"conf/device/{name}.yaml: {error}; correct that field") from error
