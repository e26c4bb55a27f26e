"""What fits a GPU: sizes that every system needs to lay models out on devices."""

from __future__ import annotations

from aegaeon.core import GB, Deployment
from aegaeon.errors import UserError

MIN_KV_BYTES = 1.0 * GB


def tensor_parallel(deployment: Deployment) -> int:
    """Return the GPUs per instance; every model of a market must ask for the same number."""
    degrees = sorted({model.tp for model in deployment.models})
    if len(degrees) != 1:
        raise UserError(
            f"models: one deployment serves one tensor-parallel degree, got {degrees}; "
            "run one deployment per degree (paper section 7.5)"
        )
    if deployment.gpus % degrees[0]:
        raise UserError(
            f"hardware.gpus: {deployment.gpus} is not a multiple of the models' tp = {degrees[0]}"
        )
    return degrees[0]


def kv_room(deployment: Deployment, weight_slots: int) -> float:
    """Return the bytes for KV next to `weight_slots` copies of the market's largest model."""
    largest = max(deployment.models, key=lambda m: deployment.costs[m.name].weight_bytes)
    weights = deployment.costs[largest.name].weight_bytes
    device = deployment.device
    room = device.memory_bytes * device.usable_memory - weight_slots * weights
    if room < MIN_KV_BYTES:
        raise UserError(
            f"models: {largest.type} needs {weights / GB:.1f} GB of weights per GPU and "
            f"{weight_slots} slot(s) of it leave {room / GB:.1f} GB of the "
            f"{device.memory_bytes / GB:.0f} GB {device.name} for KV (at least "
            f"{MIN_KV_BYTES / GB:.0f} GB needed); choose a larger GPU or tp, or, where prefetch "
            "takes the second slot, system=aegaeon_no_prefetch"
        )
    return room
