import numpy as np
import pytest

from aegaeon.sim.occupancy import WARM_UP_SERVICES, expected_active, occupancy


def arrivals(models, rate, duration, seed):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rate * duration, models)
    model = np.repeat(np.arange(models), counts)
    return model, rng.uniform(0.0, duration, counts.sum())


def test_the_papers_market_has_46_active_models():
    # The paper prints 46.55, computed before rounding lambda and T.
    assert expected_active(100, 0.037, 16.79) == pytest.approx(46.27, abs=0.01)
    assert expected_active(100, 0.037, 16.79) == pytest.approx(46.55, abs=0.5)


@pytest.mark.parametrize(
    ("models", "rate", "service_s"), [(100, 0.037, 16.79), (40, 0.5, 3.0), (20, 0.02, 2.0)]
)
def test_the_simulated_mean_is_that_of_theorem_3_1(models, rate, service_s):
    duration = 2000 * service_s**0.5
    model, arrival = arrivals(models, rate, duration, seed=7)
    result = occupancy(model, arrival, service_s, duration, seed=3)
    expected = expected_active(models, rate, service_s)
    assert result.mean_active == pytest.approx(expected, rel=0.03)
    steady = result.time_s > WARM_UP_SERVICES * service_s
    assert result.active_models[steady].mean() == pytest.approx(expected, rel=0.04)


def test_the_series_counts_each_model_once_on_a_grid_of_seconds():
    model = np.array([0, 0, 1])
    arrival = np.array([0.5, 0.6, 2.5])
    result = occupancy(model, arrival, 1e9, 5.0, seed=0)
    assert result.time_s.tolist() == [0, 1, 2, 3, 4, 5]
    assert result.active_models.tolist() == [0, 1, 1, 2, 2, 2]


def test_the_seed_alone_decides():
    model, arrival = arrivals(10, 0.1, 200.0, seed=1)
    first, second, other = (occupancy(model, arrival, 5.0, 200.0, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.active_models, second.active_models)
    assert not np.array_equal(first.active_models, other.active_models)
