"""Made-up live runs, and simulated runs of the same requests with times wrong by known factors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tests.support.synthetic_details import PARTS, write_experiment
from tests.support.synthetic_tables import COLUMNS

NAME = "live_fidelity"
LOADS = (0.5, 1.0, 2.0)
REQUESTS = 40


def fidelity_tables(
    ttft: float = 1.04, tbt: float = 0.95, points: float = 0.02, switches: int = 11
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows and requests; simulated times are the live times multiplied by `ttft`, `tbt`."""
    rows, lines = [], []
    for source, factors in (("live", (1.0, 1.0)), ("simulated", (ttft, tbt))):
        live = source == "live"
        for load in LOADS:
            key = f"{source}-{load}"
            value = 0.9 if live else 0.9 + points
            rows.append(
                COLUMNS
                | {"experiment": NAME, "figure": "", "system": "aegaeon", "source": source}
                | {"num_models": 4, "rate_rps": load, "seed": 0, "goodput_rps": 1.0}
                | dict.fromkeys(("slo_attainment", "artifact_qos", "joint_attainment"), value)
                | {"switches": 10 if live else switches, "config_hash": key}
            )
            rng = np.random.default_rng(int(10 * load))
            frame = {"arrival_s": np.sort(rng.uniform(0, 15, REQUESTS)), "model": "m0", "type": "t"}
            frame |= {"ttft_s": rng.uniform(0.01, 0.04, REQUESTS) * load * factors[0]}
            frame |= {"mean_tbt_s": rng.uniform(0.004, 0.02, REQUESTS) * load * factors[1]}
            frame |= {"output_tokens": 20, "config_hash": key, "seed": 0} | PARTS
            lines.append(pd.DataFrame(frame))
    return pd.DataFrame(rows), pd.concat(lines)


def write_fidelity(stored: Path, **errors: float) -> Path:
    """Write the experiment's rows and requests into `stored`."""
    stored.mkdir(parents=True, exist_ok=True)
    rows, lines = fidelity_tables(**errors)  # type: ignore[arg-type]
    write_experiment(stored, NAME, rows, {"requests": lines})
    return stored
