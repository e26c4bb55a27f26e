"""The vocabulary that every package shares: models, devices, costs, requests, work; stdlib only."""

from aegaeon.core.costs import (
    CostModel,
    Curve,
    DecodeCost,
    ModelCost,
    Overheads,
    PrefillCost,
    SharingModel,
    SwitchCost,
    interpolated,
)
from aegaeon.core.specs import (
    GB,
    Deployment,
    DeviceSpec,
    Fleet,
    InstanceSpec,
    ModelSpec,
    Slo,
    Stage,
)
from aegaeon.core.work import Arrival, Decode, Fail, Idle, Outcome, Prefill, Request, Work

__all__ = [
    "GB",
    "Arrival",
    "CostModel",
    "Curve",
    "Decode",
    "DecodeCost",
    "Deployment",
    "DeviceSpec",
    "Fail",
    "Fleet",
    "Idle",
    "InstanceSpec",
    "ModelCost",
    "ModelSpec",
    "Outcome",
    "Overheads",
    "Prefill",
    "PrefillCost",
    "Request",
    "SharingModel",
    "Slo",
    "Stage",
    "SwitchCost",
    "Work",
    "interpolated",
]
