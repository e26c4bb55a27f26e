import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegaeon.errors import UserError
from workloads.lengths import LengthTable, clip_lengths, sharegpt_lengths
from workloads.lengths.fit import fit, pool

HEADER = "Request Time,Model Name,Input Length,Output Length\n"


def test_sampled_means_and_quantiles_match_the_table():
    table = sharegpt_lengths()
    inputs, outputs = table.sample(np.random.default_rng(0), 400_000)
    assert inputs.dtype == outputs.dtype == np.int64
    assert inputs.mean() == pytest.approx(table.input_mean, rel=0.02)
    assert outputs.mean() == pytest.approx(table.output_mean, rel=0.02)
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    expected = np.interp(levels, table.levels, table.inputs)
    assert np.quantile(inputs, levels) == pytest.approx(expected, rel=0.05)
    assert abs(np.corrcoef(inputs, outputs)[0, 1]) < 0.01


def test_samples_stay_in_range_and_scale_exactly():
    table = sharegpt_lengths()
    inputs, outputs = table.sample(np.random.default_rng(1), 10_000)
    doubled, halved = table.sample(np.random.default_rng(1), 10_000, 2.0, 1e-6)
    assert inputs.min() >= 1
    assert inputs.max() <= table.inputs[-1]
    assert (doubled == 2 * inputs).all()
    assert (halved == 1).all()
    assert (outputs >= 16).all()


def test_a_shorter_sample_is_a_prefix():
    table = sharegpt_lengths()
    short = table.sample(np.random.default_rng(2), 10)
    long = table.sample(np.random.default_rng(2), 1000)
    assert (short[0] == long[0][:10]).all()
    assert (short[1] == long[1][:10]).all()


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(2, 10**6))
def test_clipping_fits_and_cuts_the_prompt_first(read, write, limit):
    inputs, outputs = clip_lengths(np.array([read]), np.array([write]), limit)
    assert inputs[0] >= 1
    assert outputs[0] >= 1
    assert inputs[0] + outputs[0] == min(read + write, limit)
    assert outputs[0] == min(write, limit - 1)


def test_pool_counts_shared_draws_once_and_repeats_within_a_file(tmp_path):
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    small.write_text(HEADER + "00:00:01.000,m_0,5,20\n00:00:02.000,m_0,5,20\n")
    large.write_text(HEADER + "00:00:01.000,m_0,5,20\n00:00:02.000,m_1,7,30\n")
    assert pool([small, large]).tolist() == [[5, 20], [5, 20], [7, 30]]


def test_committed_table_is_the_fit_of_the_public_files(shared_data):
    fitted, committed = (
        fit(sorted((shared_data / "sharegpt_synth").glob("*.csv"))),
        sharegpt_lengths(),
    )
    assert (fitted.inputs == committed.inputs).all()
    assert (fitted.outputs == committed.outputs).all()
    assert (fitted.n, fitted.source) == (committed.n, committed.source)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("levels", [0.0, 0.5]),
        ("levels", [0.0, 0.5, 0.9]),
        ("input", {"mean": 1.0, "quantiles": [3, 2, 1]}),
        ("input", {"mean": 1.0, "quantiles": [0, 2, 3]}),
        ("output", {"quantiles": [1, 2, 3]}),
        ("n", None),
    ],
)
def test_broken_table_is_a_users_error(tmp_path, key, value):
    path = tmp_path / "table.json"
    part = {"mean": 2.0, "quantiles": [1, 2, 3]}
    good = {"source": "x", "n": 3, "levels": [0.0, 0.5, 1.0], "input": part, "output": part}
    path.write_text(json.dumps(good))
    assert LengthTable.load(path).n == 3
    path.write_text(json.dumps(good | {key: value}))
    with pytest.raises(UserError, match=r"table\.json: not a length table"):
        LengthTable.load(path)
