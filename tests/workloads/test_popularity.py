import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegaeon.errors import UserError
from workloads.popularity import SKEWS, popularity, tail_size


def test_papers_market_is_met_exactly():
    rates = 1000.0 * popularity(779, "market")
    tail = rates[-733:]
    assert tail_size(779) == 733
    assert len(tail) / 779 == pytest.approx(0.941, abs=5e-4)
    assert tail.sum() == pytest.approx(13.5, rel=1e-12)
    assert rates.sum() == pytest.approx(1000.0, rel=1e-12)


@settings(deadline=None)
@given(st.integers(2, 5000), st.floats(1e-3, 1e6))
def test_tail_gets_its_share_of_any_market(count, total):
    rates = total * popularity(count, "market")
    tail = tail_size(count)
    assert abs(tail - 0.941 * count) <= 0.5 or tail == count - 1
    assert rates[count - tail :].sum() == pytest.approx(0.0135 * total, rel=1e-9)


@settings(deadline=None)
@given(st.integers(1, 5000), st.sampled_from(SKEWS))
def test_shares_are_positive_sum_to_one_and_never_rise(count, skew):
    shares = popularity(count, skew)
    assert shares.shape == (count,)
    assert (shares > 0).all()
    assert shares.sum() == pytest.approx(1.0, rel=1e-12)
    assert (np.diff(shares) <= 1e-15).all()


@pytest.mark.parametrize(
    ("count", "skew", "key"), [(0, "zipf", "models.count"), (3, "pareto", "workload.skew")]
)
def test_bad_arguments_are_named(count, skew, key):
    with pytest.raises(UserError, match=f"^{key}: expected"):
        popularity(count, skew)
