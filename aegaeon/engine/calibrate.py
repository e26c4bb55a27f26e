"""What models cost on a live device, measured in a moment: warms the engines up as well.

Enough for the policies' estimates on a device without a profile; `profiles/` fits a whole grid.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Mapping
from dataclasses import replace

from aegaeon.core import CostModel, ModelCost
from aegaeon.engine.pool import DevicePool
from aegaeon.engine.shell import Shell

SHORT, LONG = 8, 96
BATCH = 4
STEPS = 6
ROUNDS = 2
_FIRST_ID = 1


def calibrate(pool: DevicePool, shells: Mapping[str, Shell], costs: CostModel) -> CostModel:
    """Return `costs` with the times of prefill, decoding and switching that this device takes.

    Each figure is the best of ROUNDS: what disturbs a measurement makes it longer.
    """
    rounds = [
        {name: _measure(pool, shells[name], costs[name]) for name in shells} for _ in range(ROUNDS)
    ]
    return {name: min([r[name] for r in rounds], key=_step) for name in shells}


def _step(cost: ModelCost) -> float:
    return cost.decode_step_s(BATCH, 0)


def _measure(pool: DevicePool, shell: Shell, cost: ModelCost) -> ModelCost:
    switch = pool.activate(shell.name)
    _prefill(shell, 1, SHORT)
    short, long = _prefill(shell, 1, SHORT), _prefill(shell, 1, LONG)
    token = max(0.0, (long - short) / (LONG - SHORT))
    one, many = _decode(shell, 1), _decode(shell, BATCH)
    request = max(0.0, (many - one) / (BATCH - 1))
    switch_s = cost.switch_s if switch is None else switch.seconds
    return replace(
        cost,
        prefill_floor_s=0.0,
        prefill_base_s=max(0.0, short - token * SHORT),
        prefill_token_s=token,
        prefill_token_sq_s=0.0,
        decode_base_s=max(0.0, one - request),
        decode_context_s=0.0,
        decode_request_s=request,
        switch_s=switch_s,
        activate_s=min(cost.activate_s, switch_s),
        source="measured when the run began",
    )


def _prefill(shell: Shell, count: int, tokens: int) -> float:
    """Return the seconds of one step that prefills `count` prompts."""
    ids = _add(shell, count, tokens, 1)
    return _timed(shell, ids)


def _decode(shell: Shell, count: int) -> float:
    """Return the median seconds of a decode step of `count` requests."""
    ids = _add(shell, count, SHORT, STEPS + 1)
    shell.step(ids)
    return sorted([_timed(shell, ids) for _ in range(STEPS)])[STEPS // 2]


def _timed(shell: Shell, ids: Collection[str]) -> float:
    began = time.perf_counter()
    shell.step(ids)
    return time.perf_counter() - began


def _add(shell: Shell, count: int, tokens: int, out: int) -> list[str]:
    ids = [f"calibration-{i}" for i in range(count)]
    for i, ident in enumerate(ids):
        prompt = list(itertools.islice(itertools.count(_FIRST_ID + i), tokens))
        shell.add(ident, prompt, {"temperature": 0.0, "max_tokens": out, "ignore_eos": True})
    return ids
