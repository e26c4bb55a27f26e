"""Predicted against measured: errors are found, and what cannot be compared is refused."""

from dataclasses import replace

import pandas as pd
import pytest

from aegaeon.claims import load_claims
from aegaeon.claims.verdicts import judge
from aegaeon.errors import UserError
from aegaeon.scoring.fidelity import fidelity, paired_requests
from tests.support.synthetic_fidelity import LOADS, NAME, REQUESTS, fidelity_tables, write_fidelity

CLAIMS = {claim.column: claim for claim in load_claims() if claim.check == "fidelity"}


def test_errors_are_those_that_were_made(tmp_path):
    found = fidelity(NAME, write_fidelity(tmp_path, ttft=1.2, tbt=0.7, points=-0.3, switches=15))
    assert found.requests == len(LOADS) * REQUESTS
    assert found.ttft == pytest.approx(0.2, abs=1e-5)
    assert found.ttft_median == pytest.approx(0.2, abs=1e-5)
    assert (found.tbt, found.tbt_median) == pytest.approx((0.3, 0.3), abs=1e-5)
    assert found.attainment == pytest.approx(0.3)
    assert found.switches == pytest.approx(0.5)


def test_requests_are_paired_by_model_and_arrival_whatever_their_order(tmp_path):
    write_fidelity(tmp_path)
    path = tmp_path / "requests" / f"{NAME}.parquet"
    pd.read_parquet(path).sample(frac=1.0, random_state=3).to_parquet(path)
    pairs = paired_requests(NAME, tmp_path)
    assert (pairs["ttft_s_simulated"] / pairs["ttft_s_live"]).to_numpy() == pytest.approx(1.04)


def test_requests_of_one_token_do_not_count_for_tbt(tmp_path):
    write_fidelity(tmp_path, tbt=2.0)
    path = tmp_path / "requests" / f"{NAME}.parquet"
    lines = pd.read_parquet(path)
    lines.loc[lines.groupby("config_hash").cumcount() < REQUESTS * 0.7, "mean_tbt_s"] = 0.0
    lines.to_parquet(path)
    assert fidelity(NAME, tmp_path).tbt == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("source", ["live", "simulated"])
def test_one_source_alone_is_refused_with_what_to_do(tmp_path, source):
    write_fidelity(tmp_path)
    path = tmp_path / f"{NAME}.parquet"
    rows, _ = fidelity_tables()
    rows[rows["source"] == source].to_parquet(path)
    missing = {"live": "simulated", "simulated": "live"}[source]
    with pytest.raises(UserError, match=f"no {missing} run.*experiment={NAME}"):
        fidelity(NAME, tmp_path)


def test_runs_of_other_settings_are_refused(tmp_path):
    write_fidelity(tmp_path)
    rows, _ = fidelity_tables()
    rows.loc[rows["config_hash"] == "live-2.0", "rate_rps"] = 2.5
    rows.to_parquet(tmp_path / f"{NAME}.parquet")
    with pytest.raises(UserError, match="differ in settings"):
        fidelity(NAME, tmp_path)


def test_claims_pass_within_their_limits_and_miss_beyond(tmp_path):
    assert set(CLAIMS) == {"ttft", "tbt", "attainment"}
    good = write_fidelity(tmp_path / "good")
    bad = write_fidelity(tmp_path / "bad", ttft=1.11, tbt=0.89, points=0.06)
    for claim in CLAIMS.values():
        assert judge(claim, good).verdict == "PASS"
        assert judge(claim, bad).verdict == "MISS"
    assert judge(CLAIMS["ttft"], good).ours == "4.0% over 120 requests"
    assert judge(CLAIMS["attainment"], bad).ours == "6.0 points over 120 requests"
    assert judge(replace(CLAIMS["tbt"], tables=("nowhere",)), good).verdict == "NO DATA"
