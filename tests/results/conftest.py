import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegaeon.results.mlflow.tracker import connect
from aegaeon.results.record import open_run

Row = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def row() -> Row:
    """Make what a backend hands to `RunRecord.finish`."""

    def make(**changes):
        values = {
            **{"experiment": "fig11a", "figure": "11a", "system": "aegaeon"},
            **{"source": "simulated", "hardware": "h800", "gpus": 16, "num_models": 40},
            **{"rate_rps": 0.1, "input_scale": 1.0, "output_scale": 1.0, "slo_scale": 1.0},
            **{"ttft_slo_s": 10.0, "tbt_slo_s": 0.1, "seed": 0, "duration_s": 600.0},
            **{"requests": 10, "finished": 9, "failed": 1, "tokens": 1000},
            **{"slo_attainment": 0.93, "artifact_qos": 0.95, "joint_attainment": 0.8},
            **{"goodput_rps": 1.5, "ttft_p50_s": 0.4, "ttft_p99_s": 2.5, "tbt_p50_s": 0.02},
            **{"tbt_p99_s": 0.09, "switches": 7, "switch_p50_s": 0.8, "kv_move_p50_s": None},
            **{"mean_active_models": None, "workload": "market", "mix": "1 t"},
            **{"misprediction": 0.0, "costs": "profile"},
        }
        return values | changes

    return make


@pytest.fixture(scope="session")
def stored_row(row) -> Row:
    """Make a complete row of a stored table; the seed also gives its hash."""

    def make(**changes):
        key = str(changes.get("seed", 0)).zfill(16)
        stamp = {"wall_s": 1.0, "machine": "m", "config_hash": key, "git_sha": "abc"}
        return row(**stamp, point="p", overrides="") | changes

    return make


@pytest.fixture
def run(row, tmp_path):
    """Make finished runs under `tmp_path / "runs"`, and tell their directories."""

    def make(seed: int, experiment: str = "fig11a", sweep_id: str = "", **changes) -> Path:
        config = {"seed": seed, "system": {"name": "aegaeon"}}
        with open_run(tmp_path / "runs", experiment, config, sweep_id=sweep_id) as record:
            record.finish(row(seed=seed, experiment=experiment, **changes))
        return record.directory

    return make


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """Migrate one database for the session; that takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    connect("sqlite", folder).log("empty", [])
    return folder / "mlflow.db"


@pytest.fixture
def database(empty_database, tmp_path) -> Path:
    """Put a fresh copy of it where `tracking.uri=sqlite` looks."""
    (tmp_path / "runs").mkdir(exist_ok=True)
    return Path(shutil.copy(empty_database, tmp_path / "runs" / "mlflow.db"))
