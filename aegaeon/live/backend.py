"""`backend=live`: one run on real engines under Ray, from requests to their tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from aegaeon.core import Arrival, CostModel, Deployment, Fleet
from aegaeon.live.control.controller import Controller
from aegaeon.live.control.recovery import FaultOptions
from aegaeon.live.control.source import Replay
from aegaeon.live.control.tracks import LiveRun
from aegaeon.live.events import LiveRequest
from aegaeon.live.measure.calibrate import estimate, quick, warm_up
from aegaeon.live.options import LiveOptions
from aegaeon.live.ray.cluster import connected, reserved
from aegaeon.live.ray.session import Session, started
from aegaeon.policy.interface import System

# Every vocabulary has these ids. The cost of a prompt does not depend on its tokens.
_PROMPT_IDS = (1, 500)


def run_live(
    system: System,
    deployment: Deployment,
    fleet: Fleet,
    arrivals: Sequence[Arrival],
    options: LiveOptions,
    folder: Path,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> LiveRun:
    """Serve `arrivals` on live engines and return the finished run; logs go to `folder`.

    `fleet` is the result of `live_fleet`. Prompts are random token ids drawn from `seed`.
    `progress` gets the number of requests sent.
    Raises UserError for a configuration that cannot run. Raises LiveError if a request or token is
    lost, or if instances die more often than `options.restarts`. No process and no memory is left
    either way.
    """
    faults = FaultOptions(options.on_fault, options.restarts)
    with opened(fleet, deployment, options, folder) as session:
        costs = _costs(session, fleet, deployment, options)
        deployment = replace(deployment, costs=costs)
        clock = session.start(system, deployment)
        run = Controller(
            system.dispatcher(deployment, fleet),
            fleet,
            Replay(prompts(arrivals, seed)),
            session.transport,
            session.inbox,
            clock,
            stall_s=options.stall_timeout_s,
            progress=progress,
            faults=faults,
        ).run()
        run = replace(run, costs=costs, pool=session.pool_samples())
        if all(track.failure is None for track in run.tracks):
            session.check_empty()
        return run


@contextmanager
def opened(
    fleet: Fleet, deployment: Deployment, options: LiveOptions, folder: Path
) -> Iterator[Session]:
    """Yield a session whose engines are made; no process and no memory is left after the block.

    Raises UserError for a cluster, devices, memory or checkpoints that cannot be had.
    """
    with (
        connected(options, sum([spec.tp for spec in fleet])),
        reserved(fleet, options.device != "cpu", options.start_timeout_s) as places,
        started(fleet, places, deployment, options, folder) as session,
    ):
        yield session


def _costs(
    session: Session, fleet: Fleet, deployment: Deployment, options: LiveOptions
) -> CostModel:
    """Warm every instance up and return the cost model for the policies."""
    rounds = quick(deployment.models) if options.calibrate else []
    session.measure_together([warm_up(deployment.models)])
    measured = session.measure_together(rounds)
    return estimate(measured, fleet, deployment.costs) if rounds else deployment.costs


def prompts(arrivals: Sequence[Arrival], seed: int) -> list[LiveRequest]:
    """Return requests with random prompts of `input_tokens` ids and exactly `output_tokens` due."""
    made = []
    for arrival in arrivals:
        request, due = arrival.request, arrival.output_tokens
        rng = np.random.default_rng([seed, request.id])
        prompt = tuple(rng.integers(*_PROMPT_IDS, size=request.input_tokens).tolist())
        params = {
            "temperature": 0.0,
            "max_tokens": due,
            "ignore_eos": True,
            "detokenize": False,
        }
        made.append(LiveRequest(request, prompt, params, due=due))
    return made
