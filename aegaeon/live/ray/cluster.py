"""Ray for a live run: start or join a cluster, check the nodes, reserve devices, clean up."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray
from ray.exceptions import AuthenticationError, GetTimeoutError, RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from aegaeon.core import Fleet, InstanceSpec
from aegaeon.errors import UserError, first_line
from aegaeon.live.auth import use_auth
from aegaeon.live.memory.cleanup import remove_leftovers
from aegaeon.live.options import LiveOptions
from aegaeon.live.preflight.fingerprint import check_fingerprints, fingerprint
from aegaeon.live.ray.launcher import SLOT

_OBJECT_STORE_BYTES = 100_000_000
_ATTEMPTS = 3
_BACK_OFF_S = 2.0
_CHECK_TIMEOUT_S = 120.0
# Part of Ray's error for a cluster of other versions ("Version mismatch").
_MISMATCH = "ersion mismatch"


@contextmanager
def connected(options: LiveOptions, slots: int) -> Iterator[None]:
    """Be connected to a Ray cluster within the block.

    With address `local`, a Ray with `slots` devices starts here and ends with the block. Any other
    cluster is joined and goes on, and so does a Ray that this process is already connected to.
    Raises UserError for a cluster that does not start or answer, and for a node whose versions or
    code differ from this machine's.
    """
    if ray.is_initialized():
        _check_nodes()
        yield
        return
    use_auth(options.auth)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    _raise_file_limit()
    with _terminable() as take_sigterm_back:
        # If a signal interrupts the start, Ray's processes end with this process.
        _init(options, slots)
        take_sigterm_back()
        try:
            _check_nodes()
            yield
        finally:
            ray.shutdown()
            # A killed agent has left shared memory.
            remove_leftovers()


@contextmanager
def _terminable() -> Iterator[Callable[[], object]]:
    """Let SIGTERM unwind the stack, by the caller's handler or else by SystemExit(143).

    Ray installs a handler of its own when Ray starts. The yielded function installs ours again, so
    call this function after the start.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = signal.getsignal(signal.SIGTERM)
    ours = before if callable(before) else lambda *_: sys.exit(128 + signal.SIGTERM)
    take = partial(signal.signal, signal.SIGTERM, ours)
    take()
    try:
        yield take
    except SystemExit as stop:
        if stop.code == signal.SIGTERM:
            # Ray's handler exits with the bare number 15. Raising the signal again calls ours.
            take()
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _raise_file_limit() -> None:
    """Raise the limit of open files. Ray's processes inherit it and hold many sockets and files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _init(options: LiveOptions, slots: int) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if options.address == "local":
        _start_local(options, slots, quiet)
        return
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            ray.init(address=options.address, **quiet)
        except AuthenticationError as error:
            raise UserError(
                "Ray asks for a token and none was found; copy the head node's (`ray "
                "get-auth-token` prints it) or start every node with RAY_AUTH_MODE=disabled and "
                "set backend.auth=disabled"
            ) from error
        except (ConnectionError, RuntimeError, ValueError) as error:
            if attempt == _ATTEMPTS or _MISMATCH in str(error):
                raise UserError(_no_cluster(options.address, error)) from error
            # A busy head answers a later attempt.
            time.sleep(_BACK_OFF_S * attempt)
        else:
            return


def _no_cluster(address: str, error: Exception) -> str:
    if _MISMATCH in str(error):
        whole = " ".join(str(error).split())
        return f"backend.address: {whole}; install the same lock on every node (docs/live.md)"
    return (
        f"backend.address: no Ray cluster answers at {address!r} ({first_line(error)}); start one "
        "(docs/live.md) or use backend.address=local"
    )


def _start_local(options: LiveOptions, slots: int, quiet: dict[str, Any]) -> None:
    try:
        ray.init(
            address="local",
            num_cpus=os.cpu_count() or 1,
            num_gpus=slots if options.device != "cpu" else 0,
            resources={SLOT: slots},
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            **quiet,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"backend.address: no Ray of our own starts here ({first_line(error)}); it needs free "
            "ports, shared memory and room in its temporary folder: `aegaeon doctor` looks at these"
        ) from error


def _check_nodes() -> None:
    """Refuse a cluster in which some node has other versions than this process."""
    # Ray takes plain functions only, and `fingerprint` is a cached one.
    ask = ray.remote(fingerprint.__wrapped__)
    ids = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    asked = {
        f"node {ident[:8]}": ask.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(ident, soft=False)
        ).remote()
        for ident in ids
    }
    found = {}
    for name, ref in asked.items():
        try:
            found[name] = ray.get(ref, timeout=_CHECK_TIMEOUT_S)
        except RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"Ray cluster: {name} cannot run our code ({reason}); install this commit and its "
                "lock there (docs/live.md)"
            ) from error
    check_fingerprints(fingerprint(), found)


@contextmanager
def reserved(fleet: Fleet, gpus: bool, timeout_s: float) -> Iterator[dict[int, tuple[Any, int]]]:
    """Reserve each instance's devices; yield (placement group, bundle) by the instance's id.

    Instances of one node of the fleet get one node of the cluster, because they share host memory.
    Raises UserError, with the needed and the available devices, if the cluster is too small or does
    not have the devices free after `timeout_s` seconds.
    """
    by_node: dict[int, list[InstanceSpec]] = {}
    for spec in fleet:
        by_node.setdefault(spec.node, []).append(spec)
    names = [SLOT, "GPU"] if gpus else [SLOT]
    _check_total(by_node, names)
    groups: list[PlacementGroup] = []
    try:
        for specs in by_node.values():
            bundles = [dict.fromkeys(names, float(spec.tp)) for spec in specs]
            groups.append(placement_group(bundles, strategy="STRICT_PACK"))
        _await(groups, by_node, timeout_s)
        places = {
            spec.id: (group, i)
            for group, specs in zip(groups, by_node.values(), strict=True)
            for i, spec in enumerate(specs)
        }
        yield places
    finally:
        for group in groups:
            remove_placement_group(group)


def _check_total(by_node: dict[int, list[InstanceSpec]], names: Sequence[str]) -> None:
    """Refuse a fleet for which the cluster is too small, because waiting cannot help."""
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name in names:
        sizes = sorted([r.get(name, 0.0) for r in there], reverse=True)
        wanted = sorted([_devices(specs) for specs in by_node.values()], reverse=True)
        if sum(sizes) < sum(wanted) or max(sizes) < wanted[0]:
            raise UserError(
                f"Ray cluster: needed {_needs(by_node)} of resource {name}, the cluster has "
                f"{sum(sizes):g} ({', '.join([f'{s:g}' for s in sizes])} per node); start more "
                f"nodes with --resources='{{\"{SLOT}\": DEVICES}}' (docs/live.md), or lower "
                "hardware.gpus or hardware.gpus_per_node"
            )


def _await(
    groups: Sequence[PlacementGroup], by_node: dict[int, list[InstanceSpec]], timeout_s: float
) -> None:
    try:
        ray.get([group.ready() for group in groups], timeout=timeout_s)
    except GetTimeoutError as error:
        free = ray.available_resources()
        raise UserError(
            f"Ray cluster: needed {_needs(by_node)} of resource {SLOT}, after {timeout_s:g} s "
            f"{free.get(SLOT, 0.0):g} of {ray.cluster_resources().get(SLOT, 0.0):g} are available; "
            "wait for the run that uses them, or start more nodes"
        ) from error


def _devices(specs: Sequence[InstanceSpec]) -> int:
    return sum([spec.tp for spec in specs])


def _needs(by_node: dict[int, list[InstanceSpec]]) -> str:
    return " + ".join([str(_devices(specs)) for specs in by_node.values()])
