"""How many models have a request in flight when nothing ever queues (theorem 3.1, figure 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aegaeon.scoring.score import mean_active

WARM_UP_SERVICES = 5.0


@dataclass(frozen=True, slots=True)
class OccupancyResult:
    """m(t) on a grid of one second, and its time average after the warm-up."""

    time_s: NDArray[np.float64]
    active_models: NDArray[np.int64]
    mean_active: float


def expected_active(models: int, rate_rps: float, service_s: float) -> float:
    """Return E[m] = M * (1 - exp(-lambda * T)) (theorem 3.1)."""
    return float(models * -np.expm1(-rate_rps * service_s))


def occupancy(
    model: NDArray[np.int64],
    arrival: NDArray[np.float64],
    mean_service_s: float,
    duration_s: float,
    seed: int,
) -> OccupancyResult:
    """Serve every request at once for an exponential time and count the models in flight.

    The mean does not depend on the distribution of the service time (M/G/infinity). Averages leave
    out the first `WARM_UP_SERVICES` mean service times, when the system fills from empty.
    """
    service = np.random.default_rng([seed, 4]).exponential(mean_service_s, len(arrival))
    leave = arrival + service
    begin = min(WARM_UP_SERVICES * mean_service_s, duration_s / 2)
    grid = np.arange(0.0, duration_s + 0.5)
    active = np.zeros(len(grid), dtype=np.int64)
    for index in np.unique(model):
        mine = model == index
        started = np.searchsorted(np.sort(arrival[mine]), grid, side="right")
        active += started > np.searchsorted(np.sort(leave[mine]), grid, side="right")
    return OccupancyResult(grid, active, mean_active(model, arrival, leave, begin, duration_s))
