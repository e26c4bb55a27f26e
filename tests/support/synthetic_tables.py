"""Made-up stored tables for tests: smooth curves that cross 90 % at a chosen load.

No number here is a measurement. The hardware column says `synthetic`, so that no reader can mistake
a figure of these tables for a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

MODELS_01 = tuple(range(16, 81, 4))
MODELS_05 = tuple(range(16, 55, 2))
RATES = tuple(round(0.05 * step, 2) for step in range(1, 16))
BY_RATE = ("fig11c", "live_compare", "live_compare_simulated")

# The load at which each system's made-up curve crosses 90 %.
CROSSINGS: dict[str, dict[str, float]] = {
    "fig11a": {"aegaeon": 70, "serverlessllm": 35, "serverlessllm_plus": 44, "muxserve": 32},
    "fig11b": {"aegaeon": 46, "serverlessllm": 18, "serverlessllm_plus": 12, "muxserve": 32},
    "fig11c": {"aegaeon": 0.6, "serverlessllm": 0.1, "serverlessllm_plus": 0.12, "muxserve": 0.01},
    "fig12a": {"aegaeon": 66, "serverlessllm": 33, "serverlessllm_plus": 38, "muxserve": 32},
    "fig12b": {"aegaeon": 60, "serverlessllm": 24, "serverlessllm_plus": 30, "muxserve": 32},
    "fig12c": {"aegaeon": 40, "serverlessllm": 20, "serverlessllm_plus": 10, "muxserve": 32},
    "fig12d": {"aegaeon": 36, "serverlessllm": 17, "serverlessllm_plus": 10, "muxserve": 32},
    "fig13a": {"aegaeon": 56, "serverlessllm": 32, "serverlessllm_plus": 34, "muxserve": 32},
    "fig13b": {"aegaeon": 44, "serverlessllm": 25, "serverlessllm_plus": 26, "muxserve": 32},
    "fig13c": {"aegaeon": 20, "serverlessllm": 10, "serverlessllm_plus": 11, "muxserve": 32},
}
# Tables without a figure of the paper.
OTHERS: dict[str, dict[str, float]] = {
    "fig11a_sleep_mode": {"aegaeon": 70, "serverlessllm": 35, "sleep_mode": 30},
    "fig11b_sleep_mode": {"aegaeon": 46, "serverlessllm": 18, "sleep_mode_preempt": 40},
    "live_compare": {"aegaeon_1p1d": 0.4, "serverlessllm": 0.3, "sleep_mode_preempt": 0.5},
    "live_compare_simulated": {"aegaeon_1p1d": 0.5, "serverlessllm": 0.3, "sleep_mode": 0.2},
}
PRESETS = {
    "serverlessllm_paper": ("serverlessllm", 0.85),
    "serverlessllm_plus_paper": ("serverlessllm_plus", 0.9),
    "muxserve_relaxed": ("muxserve", 1.3),
    "aegaeon_artifact": ("aegaeon", 0.95),
    "aegaeon_no_prefetch": ("aegaeon", 0.9),
    "aegaeon_3p13d": ("aegaeon", 1.02),
}
COLUMNS = {
    "input_scale": 1.0, "output_scale": 1.0, "slo_scale": 1.0, "ttft_slo_s": 10.0,
    "tbt_slo_s": 0.1, "requests": 100, "finished": 100, "failed": 0, "ttft_p50_s": 1.0,
    "ttft_p99_s": 5.0, "tbt_p50_s": 0.05, "tbt_p99_s": 0.2, "switches": 10, "switch_p50_s": 0.4,
    "kv_move_p50_s": 0.1, "wall_s": 1.0, "git_sha": "0" * 40, "machine": "m",
    "duration_s": 300.0, "gpus": 16, "tokens": 30000, "mean_active_models": 10.0,
    "source": "simulated", "hardware": "synthetic", "workload": "market", "mix": "1 t",
    "misprediction": 0.0, "costs": "profile", "overrides": "", "point": "p", "curve": "c",
}  # fmt: skip


def _loads(experiment: str) -> tuple[float, ...]:
    if experiment in BY_RATE:
        return RATES
    return MODELS_05 if experiment in ("fig11b", "fig12c", "fig12d") else MODELS_01


def sweep_table(experiment: str, crossings: Mapping[str, float], seeds: int = 3) -> pd.DataFrame:
    """Return one row per system, load and seed; MuxServe refuses requests above 32 models."""
    rows = []
    for system, at in crossings.items():
        for load in _loads(experiment):
            by_rate = experiment in BY_RATE
            models, rate = (40, load) if by_rate else (int(load), 0.1)
            for seed in range(seeds):
                shift = (load - at * (1 + 0.02 * (seed - (seeds - 1) / 2))) / (0.12 * at)
                value = 1 / (1 + np.exp(shift - np.log(9)))
                refused = system == "muxserve" and models > 32
                if system == "muxserve":
                    value = 0.5 if refused else 1.0
                rows.append(
                    COLUMNS
                    | {"experiment": experiment, "figure": experiment[:5], "system": system}
                    | {"num_models": models, "rate_rps": rate, "seed": seed}
                    | {"failed": 50 * refused}
                    | dict.fromkeys(("slo_attainment", "artifact_qos", "joint_attainment"), value)
                    | {"goodput_rps": value * models * rate}
                )
    return _keyed(rows)


def _keyed(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame([row | {"config_hash": f"{at:012x}"} for at, row in enumerate(rows)])


def fig04_tables(mean: float = 46.3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return three runs of the experiment fig04, and the detail table `series` of these runs."""
    row = {"experiment": "fig04", "figure": "fig04", "system": "serverlessllm", "num_models": 100}
    row |= {"rate_rps": 0.037, "slo_attainment": 1.0, "artifact_qos": 1.0, "joint_attainment": 1.0}
    row |= {"goodput_rps": 3.7, "mean_active_models": mean}
    runs = _keyed([COLUMNS | row | {"seed": seed} for seed in range(3)])
    rng = np.random.default_rng(0)
    time = np.arange(0.0, 2000.0, 2.0)
    walks = [mean + 6 * np.sin(time / (40 + 9 * seed)) for seed in range(3)]
    series = [
        pd.DataFrame(
            {"config_hash": f"{seed:012x}", "seed": seed, "time_s": time}
            | {"active_models": np.round(walk)}
        )
        for seed, walk in enumerate(walk + rng.normal(0, 2, time.size) for walk in walks)
    ]
    return runs, pd.concat(series, ignore_index=True)


def write_all(stored: Path, *, presets: bool = True) -> Path:
    """Write every table that the figures need into `stored`."""
    stored.mkdir(parents=True, exist_ok=True)
    for experiment, main in CROSSINGS.items():
        extra = {name: main[base] * by for name, (base, by) in PRESETS.items() if base in main}
        table = sweep_table(experiment, main | (extra if presets else {}))
        table.to_parquet(stored / f"{experiment}.parquet")
    for experiment, crossings in OTHERS.items():
        table = sweep_table(experiment, crossings)
        if experiment == "live_compare":
            table = table.assign(source="live", gpus=2)
        table.to_parquet(stored / f"{experiment}.parquet")
    runs, series = fig04_tables()
    runs.to_parquet(stored / "fig04.parquet")
    (stored / "series").mkdir()
    series.to_parquet(stored / "series" / "fig04.parquet")
    return stored
