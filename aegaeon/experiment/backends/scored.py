"""From the log of a run, simulated or live, to its row and its tables."""

from __future__ import annotations

import numpy as np

from aegaeon.experiment.planned import Plan, Result, settings
from aegaeon.runlog import RunLog
from aegaeon.scoring.score import mean_active, score_run
from aegaeon.scoring.tables import events_table, requests_table, summary


def scored(planned: Plan, log: RunLog) -> Result:
    """Score a run; return its row and the tables that every run has."""
    scores = score_run(log, planned.deployment.slo)
    row = settings(planned) | summary(log, scores, planned.duration_s)
    row |= {"mean_active_models": _mean_active(planned, log)}
    tables = {
        "requests": requests_table(log, scores, planned.types),
        "events": events_table(log, planned.types),
    }
    return Result(row, tables)


def _mean_active(planned: Plan, log: RunLog) -> float:
    index = {model.name: i for i, model in enumerate(planned.deployment.models)}
    served = [r for r in log.requests if r.failure is None]
    return mean_active(
        np.array([index[r.request.model] for r in served], dtype=np.int64),
        np.array([r.request.arrival for r in served]),
        np.array([r.finish for r in served]),
        0.0,
        planned.duration_s,
    )
