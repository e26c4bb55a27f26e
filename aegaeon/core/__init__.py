"""The vocabulary that every package shares: models, devices, costs, requests, work; stdlib only."""

from aegaeon.core.costs import CostModel, Curve, ModelCost, Overheads, SharingModel, interpolated
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
    "Request",
    "SharingModel",
    "Slo",
    "Stage",
    "Work",
    "interpolated",
]
