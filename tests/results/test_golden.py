"""Golden hashes: each stored row bears the hash of the point that is composed for it today."""

from pathlib import Path

import pytest

from aegaeon.experiment.points import points
from aegaeon.results.config_hash import config_hash
from aegaeon.results.inputs import input_digests
from aegaeon.results.store import load_stored

STORED = Path(__file__).parents[2] / "runs" / "stored"
# Tables whose rows no composition gives, and why. There are none.
NOT_COMPOSED: dict[str, str] = {}
# Sweeps of the same groups as a sweep that the default tests check.
ALIKE = {"fig11a_pcie4", "fig11b", "fig11b_sleep_mode", "fig11c", "fig12a", "fig12b", "fig12d"}
ALIKE |= {"fig13a", "fig13b"}
TABLES = [
    pytest.param(path.stem, marks=[pytest.mark.slow] if path.stem in ALIKE else [])
    for path in sorted(STORED.glob("*.parquet"))
    if path.stem not in NOT_COMPOSED
]


def columns(point) -> dict[str, object]:
    """Return what a row says of its point, for any backend."""
    slo, workload = point["slo"], point["workload"]
    return {
        "experiment": point["name"],
        "figure": point["figure"],
        "num_models": point["models"]["count"],
        "rate_rps": workload["rate_rps"],
        "input_scale": workload["input_scale"],
        "output_scale": workload["output_scale"],
        "slo_scale": slo["scale"],
        "ttft_slo_s": slo["ttft_s"] * slo["scale"],
        "tbt_slo_s": slo["tbt_s"] * slo["scale"],
        "seed": point["seed"],
        "source": "live" if "live" in point["backend"]["name"] else "simulated",
        "system": point["system"]["name"],
    }


@pytest.mark.parametrize("experiment", TABLES)
def test_stored_rows_have_the_hashes_of_their_points(experiment):
    """A new key that fails here needs a line in aegaeon/results/introduced_defaults.yaml."""
    rows = load_stored(experiment, STORED).set_index("config_hash")
    hashed = {config_hash(point, input_digests(point)): point for point in points(experiment)}
    lost = set(rows.index) - set(hashed)
    assert not lost, f"{len(lost)} of {len(rows)} stored rows are of no point"
    for key, row in rows.iterrows():
        wanted = columns(hashed[key])
        if row["system"] in ("occupancy", "switch_cost"):
            # What measures a device or a theorem has no system of its own.
            del wanted["system"], wanted["source"]
        assert row[list(wanted)].to_dict() == wanted
