"""Made-up runs of Figures 7 and 14 to 17, with detail tables; hardware `synthetic`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tests.support.synthetic_tables import COLUMNS

SETUPS = ((16, 0.1), (32, 0.1), (64, 0.1), (16, 0.5), (32, 0.5))
TYPES = ("qwen2.5-7b", "yi-1.5-9b", "llama2-13b")
PARTS = {
    "prefill_wait_s": 0.1, "prefill_s": 0.2, "decode_wait_s": 0.5, "decode_s": 1.0,
    "control_s": 0.05, "data_s": 0.15,
}  # fmt: skip
LINES = 60


def detail_rows(experiment: str, system: str = "aegaeon", **changes: object) -> pd.DataFrame:
    """Return one row per set-up, as the experiment stores rows."""
    score = dict.fromkeys(("slo_attainment", "artifact_qos", "joint_attainment"), 0.95)
    rows = [
        COLUMNS
        | {"experiment": experiment, "figure": "14", "system": system, "seed": 0}
        | {"num_models": models, "rate_rps": rate, "goodput_rps": 1.0, **score}
        | {"config_hash": f"{experiment}-{system}-{at}"}
        | changes
        for at, (models, rate) in enumerate(SETUPS)
    ]
    return pd.DataFrame(rows)


def details(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return all detail tables for these rows: half of the switches prefetched, a tenth unused."""
    rng = np.random.default_rng(1)
    found: dict[str, list[pd.DataFrame]] = {}
    for key in rows["config_hash"]:
        kinds = pd.Series(TYPES * (LINES // len(TYPES)))
        ahead = np.arange(LINES) % 2 == 0
        tables = {
            "requests": {"model": kinds, "type": kinds, "arrival_s": np.arange(LINES) * 1.0}
            | {name: rng.uniform(0.5, 1, LINES) * mean for name, mean in PARTS.items()}
            | {"ttft_s": 0.3, "mean_tbt_s": 0.02, "output_tokens": 100},
            "events": {"kind": "switch", "time_s": np.arange(LINES) * 1.0, "instance": 0}
            | {"model": kinds, "type": kinds, "bytes": 1e10, "prefetched": ahead}
            | {"seconds": np.where(ahead, 0.01, rng.uniform(0.3, 0.7, LINES))},
            "pool": {"time_s": [0.0, 0.0, 1.0, 1.0], "node": "0", "shape": ["S0", "S1"] * 2}
            | {"block_bytes": [1 << 20, 1 << 24] * 2, "used_bytes": [0, 0, 9 << 27, 9 << 27]}
            | {"allocated_bytes": [0, 0, 10 << 27, 10 << 27]},
            "stages": {"stage": ["usual loader", "packed arena", "prefetched"]}
            | {"order": [0, 1, 2], "model": "llama2-13b", "seconds": [9.2, 0.6, 0.01]}
            | {"bytes": 26e9, "note": ""},
        }
        for name, columns in tables.items():
            frame = pd.DataFrame(columns).assign(config_hash=key, seed=0)
            found.setdefault(name, []).append(frame)
    return {name: pd.concat(frames) for name, frames in found.items()}


def target_rows(experiment: str, column: str) -> pd.DataFrame:
    """Return the rows of one panel of Figure 17: three targets, hardest first."""
    rows = []
    for rank, target in enumerate(
        (5.0, 10.0, 20.0) if column == "ttft_slo_s" else (0.05, 0.1, 0.2)
    ):
        for load in range(4):
            by_rate = column == "ttft_slo_s"
            models, rate = (4, 0.1 + 0.1 * load) if by_rate else (4 + load, 0.1)
            value = 0.5 + 0.2 * rank - 0.05 * load
            rows.append(
                COLUMNS
                | {"experiment": experiment, "figure": "17", "system": "aegaeon", "seed": 0}
                | {"num_models": models, "rate_rps": rate, "goodput_rps": 1.0, column: target}
                | dict.fromkeys(("slo_attainment", "artifact_qos", "joint_attainment"), value)
                | {"config_hash": f"{experiment}-{rank}-{load}"}
            )
    return pd.DataFrame(rows)


def write_details(stored: Path, *, presets: bool = True) -> None:
    """Write the tables of Figures 7 and 14 to 17 into `stored`."""
    rows = detail_rows("fig14")
    if presets:
        rows = pd.concat([rows, detail_rows("fig14", "aegaeon_artifact")])
    write_experiment(stored, "fig14", rows, details(rows))
    live = detail_rows("live_fig07", source="live", hardware="cpu_live", gpus=2).head(1)
    stages = details(live)["stages"].replace({"usual loader": "re-initialisation"})
    stages.loc[stages["stage"] == "packed arena", "seconds"] = 0.1
    write_experiment(stored, "live_fig07", live, {"stages": stages})
    for name, column in (("fig17_left", "tbt_slo_s"), ("fig17_right", "ttft_slo_s")):
        write_experiment(stored, name, target_rows(name, column), {})


def write_experiment(
    stored: Path, name: str, rows: pd.DataFrame, tables: dict[str, pd.DataFrame]
) -> None:
    """Write an experiment's rows and detail tables."""
    rows.to_parquet(stored / f"{name}.parquet")
    for table, frame in tables.items():
        (stored / table).mkdir(exist_ok=True)
        frame.to_parquet(stored / table / f"{name}.parquet")
