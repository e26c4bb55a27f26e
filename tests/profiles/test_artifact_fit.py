import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegaeon.errors import UserError
from profiles.affine import fit_decode, fit_prefill
from profiles.artifact_fit import fit_table
from profiles.files import FOLDER
from profiles.leastsq import nonnegative, relative
from profiles.quality import predict, score

GRID = np.array([(n, b) for n in (16, 64, 256, 1024, 4096) for b in (1, 2, 4, 8, 16)], dtype=float)
HEADER = (
    "model,device,tp,input_len,batch_size,trimmed_prefill_latency_s,"
    "trimmed_decode_latency_s,valid\n"
)


@settings(max_examples=40, deadline=None)
@given(
    base=st.floats(1e-3, 2e-2),
    token=st.floats(1e-5, 2e-4),
    token_sq=st.floats(1e-10, 1e-8),
    flat_tokens=st.sampled_from([0, 20, 50, 100, 500]),
)
def test_prefill_recovers_coefficients_and_floor(base, token, token_sq, flat_tokens):
    lengths, batch = GRID.T
    floor = base + token * flat_tokens + token_sq * flat_tokens**2
    linear = base + token * lengths * batch + token_sq * lengths**2 * batch
    fit = fit_prefill(GRID, np.maximum(floor, linear))
    assert fit.base_s == pytest.approx(base, rel=1e-3)
    assert fit.token_s == pytest.approx(token, rel=1e-3)
    assert fit.token_sq_s == pytest.approx(token_sq, rel=1e-3)
    if flat_tokens:
        assert fit.floor_s == pytest.approx(floor, rel=1e-3)
    else:
        assert fit.floor_s <= linear.min() * 1.001


@settings(max_examples=40, deadline=None)
@given(
    base=st.floats(1e-3, 5e-2),
    context=st.floats(1e-8, 1e-6),
    request=st.floats(1e-5, 1e-3),
)
def test_decode_recovers_coefficients(base, context, request):
    lengths, batch = GRID.T
    fit = fit_decode(GRID, base + context * lengths * batch + request * batch)
    assert fit.base_s == pytest.approx(base, rel=1e-3)
    assert fit.context_s == pytest.approx(context, rel=1e-3)
    assert fit.request_s == pytest.approx(request, rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), columns=st.integers(1, 6))
def test_nonnegative_least_squares_meets_the_optimality_conditions(seed, columns):
    random = np.random.default_rng(seed)
    x = random.normal(size=(20, columns)) * 10.0 ** random.integers(-6, 3, columns)
    y = random.normal(size=20)
    c = nonnegative(x, y)
    gradient = (x / np.abs(x).max(axis=0)).T @ (x @ c - y)
    assert (c >= 0).all()
    assert (gradient > -1e-8).all()
    assert np.abs(gradient[c > 0]).max(initial=0) < 1e-8


def test_lower_bound_holds_where_the_data_say_zero():
    x = np.stack([np.ones(len(GRID)), GRID[:, 0]], axis=1)
    c = relative(x, np.full(len(GRID), 0.01), np.array([0.0, 1e-9]))
    assert c[1] == 1e-9
    assert c[0] == pytest.approx(0.01, rel=1e-3)


def test_held_out_error_shows_a_fit_that_only_remembers():
    batch = GRID[:, 1]
    seconds = 0.01 + 1e-4 * batch
    noisy = seconds * np.where(np.arange(len(GRID)) % 2, 1.1, 0.9)
    quality = score(GRID, noisy, fit_decode)
    assert quality.points == len(GRID)
    assert 0.05 < quality.median_error < 0.15
    assert quality.held_out_p90_error >= quality.p90_error
    assert predict(fit_decode(GRID, seconds), GRID) == pytest.approx(seconds, rel=1e-4)
    assert score(GRID, seconds, fit_decode).r2 == pytest.approx(1)


@pytest.mark.slow
def test_committed_profiles_come_from_the_data_byte_for_byte(latencies, tmp_path):
    fit_table(latencies, tmp_path)
    made = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*.json")}
    published = [p for p in FOLDER.glob("*/*-tp*.json") if not (p.parent / "engine.json").exists()]
    kept = {p.relative_to(FOLDER): p.read_bytes() for p in published}
    assert len(made) == 29
    assert made == kept


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as CSV"),
        ("", "cannot be read as CSV"),
        ("model,device\n", "lacks the columns"),
        (HEADER + "qwen2.5-7b,H800,1,16,1,0.1,0.1,0\n", "no usable rows"),
        (HEADER + "qwen2.5-7b,H800,1,16,1,0.1,0.1,1\n", "no usable rows"),
        (HEADER + "x,H800,1,16,1,0.1,0.1,0\nx,H800,1,16,1,0.1,,1\n", r"csv:3: latencies must"),
    ],
)
def test_unusable_tables_are_refused_by_name(tmp_path, content, message):
    table = tmp_path / "table.csv"
    if content is not None:
        table.write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        fit_table(table, tmp_path / "out")
    assert str(table) in str(refused.value)
