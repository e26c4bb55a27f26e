"""Checks of a live run's configuration; needs no torch and no Ray."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace

from aegaeon.constraints import check_fields
from aegaeon.core import Deployment, Fleet, InstanceSpec, ModelSpec
from aegaeon.errors import UserError
from aegaeon.live.memory.shared import SHARED_MEMORY
from aegaeon.live.options import LEAST_SLAB_BYTES, LiveOptions, SwitchCostOptions
from aegaeon.live.preflight.checkpoints import check_checkpoint, check_random
from aegaeon.policy.interface import System

_CPU_BLOCK = 32
_BLOCKS_PER_SLAB = 16


def check_options(options: LiveOptions | SwitchCostOptions) -> None:
    """Raise UserError that names the first key of `backend` with an unusable value."""
    check_fields(options, "backend")
    if options.device == "cpu" and options.block_size % _CPU_BLOCK:
        raise UserError(
            f"backend.block_size: vLLM's attention on a CPU takes multiples of {_CPU_BLOCK}, got "
            f"{options.block_size}"
        )


def check_types(
    models: Sequence[ModelSpec], options: LiveOptions | SwitchCostOptions, known: Collection[str]
) -> None:
    """Raise UserError unless every model type has a checkpoint or can be a random model.

    `known` are further types that `backend.checkpoints` may name. Checkpoint folders are checked
    only if this machine serves the models; a node of a cluster checks its own.
    """
    types = {spec.type: spec for spec in models}
    if unknown := sorted(set(options.checkpoints) - set(types) - set(known)):
        raise UserError(
            f"backend.checkpoints: no model type is called {unknown[0]!r}; this run's are "
            f"{', '.join(sorted(types))}"
        )
    here = not isinstance(options, LiveOptions) or options.address == "local"
    for name, spec in types.items():
        if name not in options.checkpoints:
            check_random(spec)
        elif here:
            check_checkpoint(spec, options.checkpoints[name])


def check_shares(system: System) -> None:
    """Raise UserError for a system whose models share a device."""
    if system.shares_devices:
        raise UserError(
            "system: backend=live does not run models that share a device; choose another system, "
            "or backend=simulated"
        )


def live_fleet(system: System, deployment: Deployment, options: LiveOptions) -> Fleet:
    """Return the system's instances with the KV bytes that `options` set.

    Raises UserError for models that share a device, and for KV bytes that a device does not have or
    that do not hold one request of a model's full length.
    """
    check_shares(system)
    fleet = system.fleet(deployment)
    if options.kv_bytes:
        fleet = tuple([_with_kv(spec, options.kv_bytes) for spec in fleet])
    for spec in fleet:
        for model in deployment.models:
            _check_kv(spec, model, options)
    return fleet


def check_host(models: Sequence[ModelSpec], options: LiveOptions) -> None:
    """Raise UserError unless a node's cache holds all weights, and a slab the largest KV block."""
    weights = host_weights(models)
    if weights > options.cache_bytes:
        raise UserError(
            f"backend.cache_bytes: the {len(models)} models' weights take {weights:,} bytes, the "
            f"cache has {options.cache_bytes:,}; raise it, or lower models.count"
        )
    largest = max(models, key=lambda spec: spec.kv_bytes_per_token)
    block = largest.kv_bytes_per_token * options.block_size
    if block > slab_bytes(models, options):
        raise UserError(
            f"backend.slab_bytes: a KV block of {largest.type} ({options.block_size} tokens) takes "
            f"{block:,} bytes, a slab has {options.slab_bytes:,}; raise it (0 makes "
            f"room for {_BLOCKS_PER_SLAB} such blocks), or lower backend.block_size"
        )


def slab_bytes(models: Sequence[ModelSpec], options: LiveOptions) -> int:
    """Return the bytes of a slab.

    With `options.slab_bytes` 0, a slab has 1 MiB, or 16 of the largest KV blocks if that is more.
    """
    block = max([spec.kv_bytes_per_token for spec in models], default=0) * options.block_size
    return options.slab_bytes or max(LEAST_SLAB_BYTES, _BLOCKS_PER_SLAB * block)


def host_weights(models: Sequence[ModelSpec]) -> int:
    """Return the bytes of all models' weights; a node keeps one copy of each model."""
    return sum([int(spec.weight_bytes) for spec in models])


def check_shared_memory(models: Sequence[ModelSpec], options: LiveOptions) -> None:
    """Raise UserError if this machine's free shared memory is too small for a node of the run."""
    made = [spec for spec in models if spec.type not in options.checkpoints]
    pool = slab_bytes(models, options) * options.slabs
    # The checkpoint files of random models lie in shared memory too.
    need = pool + host_weights(models) + host_weights(made)
    free = shutil.disk_usage(SHARED_MEMORY).free
    if need > free:
        raise UserError(
            f"{SHARED_MEMORY}: {need:,} bytes are needed, {pool:,} of them for the host KV pool, "
            f"and {free:,} are free; lower backend.slabs or models.count, or enlarge it"
        )


def _with_kv(spec: InstanceSpec, kv_bytes: int) -> InstanceSpec:
    if kv_bytes > spec.kv_bytes:
        raise UserError(
            f"backend.kv_bytes: {kv_bytes:,} bytes are asked for, a device has "
            f"{spec.kv_bytes:,.0f} next to {spec.weight_slots} slot(s) for weights; lower it (0 "
            "takes what is left), or choose a device with more hardware.device.memory_bytes"
        )
    return replace(spec, kv_bytes=kv_bytes)


def _check_kv(spec: InstanceSpec, model: ModelSpec, options: LiveOptions) -> None:
    """Refuse KV bytes that hold less than one request of a model's full length, as vLLM would."""
    # vLLM keeps one block to itself.
    blocks = -(-model.max_len // options.block_size) + 1
    need = blocks * options.block_size * model.kv_bytes_per_token // spec.tp
    if need > spec.kv_bytes:
        raise UserError(
            f"backend.kv_bytes: one request of {model.type} with max_len {model.max_len} takes "
            f"{need:,} bytes of KV, a device has room for {spec.kv_bytes:,.0f}; raise it, or lower "
            "the model's max_len"
        )
