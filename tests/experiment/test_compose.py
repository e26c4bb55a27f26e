"""Everything in conf/ composes, converts, passes the checks and can be planned."""

from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import get_type_hints

import pytest
from omegaconf import OmegaConf

from aegaeon.core import DeviceSpec, ModelSpec
from aegaeon.experiment.config import Device, ModelType, Occupancy, from_hydra
from aegaeon.experiment.plan import plan

CONF = Path(__file__).parents[2] / "conf"
GOLDEN = Path(__file__).with_name("golden_config.yaml")
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
GROUPS = ("system", "hardware", "models", "workload", "slo", "backend")
CHOICES = [(g, p.stem) for g in GROUPS for p in sorted((CONF / g).glob("*.yaml"))]
DEVICES = sorted((CONF / "device").glob("*.yaml"))
MODELS = sorted((CONF / "model").glob("*.yaml"))


def filled(schema, values):
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), values))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_can_be_planned(name, composed) -> None:
    config = from_hydra(composed(f"experiment={name}"))
    planned = plan(config, seed=0)
    assert config.name == name
    assert len(planned.deployment.models) == config.models.count
    assert all(a.request.arrival <= planned.duration_s for a in planned.arrivals)
    if not isinstance(config.backend, Occupancy):
        fleet = config.system.fleet(planned.deployment)
        assert sum(instance.tp for instance in fleet) == config.hardware.gpus


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_choice_composes_alone_and_bears_its_name(group, choice, composed) -> None:
    overrides = [f"{group}={choice}"]
    cfg = composed(*overrides)
    if group == "workload" and OmegaConf.is_missing(cfg.workload, "path"):
        cfg = composed(*overrides, "workload.path=trace.csv")
    config = from_hydra(cfg)
    assert getattr(getattr(config, group), "name", choice) == choice


@pytest.mark.parametrize("path", DEVICES, ids=lambda path: path.stem)
def test_device_fits_its_schema(path, composed) -> None:
    device = filled(Device, composed.part("device", path.stem))
    assert DeviceSpec(**asdict(device)).name == path.stem


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_model_fits_its_schema(path, composed) -> None:
    model = filled(ModelType, composed.part("model", path.stem))
    assert ModelSpec(name="model-0", **asdict(model)).type == path.stem


def test_device_and_model_are_replaced_by_an_override(composed) -> None:
    config = from_hydra(composed("device@hardware.device=h20", "model@models.types.yi=qwen-7b"))
    assert (config.hardware.device.name, config.models.types["yi"].type) == ("h20", "qwen-7b")


@pytest.mark.parametrize(
    ("twin", "spec", "left_out"), [(Device, DeviceSpec, set()), (ModelType, ModelSpec, {"name"})]
)
def test_schema_twin_has_the_fields_of_its_spec(twin, spec, left_out) -> None:
    wanted = {f.name: get_type_hints(spec)[f.name] for f in fields(spec)}
    assert get_type_hints(twin) == {k: t for k, t in wanted.items() if k not in left_out}
    defaults = {f.name: f.default for f in fields(spec) if f.default is not MISSING}
    assert {f.name: f.default for f in fields(twin) if f.default != "???"} == defaults


def test_default_configuration_is_the_golden_one(composed) -> None:
    """After a wanted change: `aegaeon run --cfg job > tests/experiment/golden_config.yaml`."""
    assert OmegaConf.to_yaml(composed()) == GOLDEN.read_text()
