from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegaeon.core import ModelSpec
from aegaeon.errors import UserError
from tests.support.workload_rows import rows
from workloads import expand_market, market, model_rates, sharegpt_lengths
from workloads.market import renewal_arrivals


def without_ids(requests):
    return [request._replace(id=0) for request in requests]


def spec(name, max_len=32768):
    return ModelSpec(name, name, 7e9, 32, 4096, 11008, 32, 32, 128, max_len)


def test_mix_of_types_follows_the_listed_order():
    models = expand_market([(spec("qwen"), 6), (spec("yi"), 2), (spec("llama"), 2)], 25)
    for i, model in enumerate(models):
        assert model.name == f"model_{i:03d}"
        assert model.type == ("qwen" if i % 10 < 6 else "yi" if i % 10 < 8 else "llama")
    names = [model.name for model in expand_market([(spec("a"), 1), (spec("b"), 0)], 1001)]
    assert names == sorted(set(names))


@pytest.mark.parametrize("shares", [[], [0, 0], [2, -1]])
def test_impossible_mix_is_a_users_error(shares):
    with pytest.raises(UserError, match=r"^models: expected"):
        expand_market([(spec("a"), share) for share in shares], 3)


def test_requests_are_sorted_numbered_and_within_the_run(make_market):
    requests = rows(market(make_market(20), 0.5, 60.0))
    assert [request.id for request in requests] == list(range(len(requests)))
    assert all(a.arrival <= b.arrival for a, b in pairwise(requests))
    assert requests[0].arrival >= 0
    assert requests[-1].arrival < 60.0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**70),
    small=st.integers(1, 6),
    extra=st.integers(0, 6),
    burstiness=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_smaller_or_shorter_market_is_part_of_the_larger(
    make_market, seed, small, extra, burstiness
):
    models = make_market(small + extra)
    large = rows(market(models, 0.3, 60.0, seed=seed, burstiness=burstiness))
    names = {model.name for model in models[:small]}
    few = rows(market(models[:small], 0.3, 60.0, seed=seed, burstiness=burstiness))
    assert without_ids(few) == without_ids(r for r in large if r.model in names)
    short = rows(market(models, 0.3, 20.0, seed=seed, burstiness=burstiness))
    assert without_ids(short) == without_ids(r for r in large if r.arrival < 20.0)
    assert rows(market(models, 0.3, 60.0, seed=seed, burstiness=burstiness)) == large


def test_seeds_and_models_differ(make_market):
    first, second = (rows(market(make_market(2), 1.0, 60.0, seed=seed)) for seed in (0, 1))
    assert without_ids(first) != without_ids(second)
    by_model = [[r.arrival for r in first if r.model == f"model_00{i}"] for i in range(2)]
    assert by_model[0] != by_model[1]


def test_scales_multiply_the_same_draws(make_market):
    models = make_market(10, max_len=10**6)
    plain = rows(market(models, 0.5, 120.0))
    scaled = rows(market(models, 0.5, 120.0, input_scale=2.0, output_scale=3.0))
    assert [r.arrival for r in scaled] == [r.arrival for r in plain]
    assert [r.input_tokens for r in scaled] == [2 * r.input_tokens for r in plain]
    assert [r.output_tokens for r in scaled] == [3 * r.output_tokens for r in plain]


def test_lengths_fit_the_model_and_keep_the_tables_mean(make_market):
    requests = rows(market(make_market(200), 0.5, 200.0))
    table = sharegpt_lengths()
    assert np.mean([r.input_tokens for r in requests]) == pytest.approx(table.input_mean, rel=0.03)
    clipped = rows(market(make_market(200, max_len=512), 0.5, 200.0))
    assert max(r.input_tokens + r.output_tokens for r in clipped) == 512


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_rate_and_variation_of_gaps(burstiness):
    times = renewal_arrivals(np.random.default_rng(7), 2.0, 50_000.0, burstiness)
    gaps = np.diff(times)
    assert len(times) / 50_000.0 == pytest.approx(2.0, rel=0.04)
    assert gaps.std() / gaps.mean() == pytest.approx(burstiness, rel=0.05)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_mean_rate_is_nominal_in_short_runs(burstiness):
    rng = np.random.default_rng(3)
    counts = [len(renewal_arrivals(rng, 0.05, 60.0, burstiness)) for _ in range(20_000)]
    error = np.std(counts) / np.sqrt(len(counts))
    assert np.mean(counts) == pytest.approx(3.0, abs=4 * error)
    assert error < 0.06


def test_poisson_gaps_are_exponential_and_counts_uncapped():
    times = renewal_arrivals(np.random.default_rng(5), 1.0, 20_000.0, 1.0)
    gaps = np.sort(np.diff(times, prepend=0.0))
    expected = 1 - np.exp(-gaps)
    distance = np.abs(expected - np.arange(1, len(gaps) + 1) / len(gaps)).max()
    assert distance < 1.63 / np.sqrt(len(gaps))
    rng = np.random.default_rng(6)
    counts = [len(renewal_arrivals(rng, 0.1, 120.0, 1.0)) for _ in range(4000)]
    assert np.var(counts) == pytest.approx(12.0, rel=0.1)


def test_skewed_market_gives_the_tail_its_share(make_market):
    models = make_market(200)
    rates = model_rates(models, 1.0, "market", seed=4)
    assert sum(rates.values()) == pytest.approx(200.0)
    assert list(rates.values()) != sorted(rates.values(), reverse=True)
    requests = rows(market(models, 1.0, 500.0, seed=4, skew="market"))
    counts = Counter(request.model for request in requests)
    tail = sorted(models, key=lambda model: rates[model.name])[:188]
    share = sum(counts[model.name] for model in tail) / len(requests)
    assert share == pytest.approx(0.0135, rel=0.1)
    assert len(requests) == pytest.approx(100_000, rel=0.02)


@pytest.mark.parametrize(
    "change",
    [
        {"rate_rps": 0.0},
        {"rate_rps": float("nan")},
        {"duration_s": -1.0},
        {"input_scale": 0.0},
        {"output_scale": float("inf")},
        {"skew": "pareto"},
        {"burstiness": 0.0},
        {"burstiness": 1e200},
        {"seed": -1},
    ],
)
def test_value_out_of_range_names_its_key(make_market, change):
    arguments = {"rate_rps": 0.1, "duration_s": 10.0} | change
    (name,) = change
    key = "seeds" if name == "seed" else f"workload.{name}"
    with pytest.raises(UserError, match=f"^{key}: expected"):
        market(make_market(2), **arguments)


@pytest.mark.parametrize(
    "models", [(), (spec("a"), spec("a")), (spec("a", max_len=1),)], ids=["none", "twice", "short"]
)
def test_impossible_models_are_a_users_error(models):
    with pytest.raises(UserError, match=r"^models(\.count)?: "):
        market(models, 0.1, 10.0)
