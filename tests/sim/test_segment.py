import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegaeon.sim.segment import UNBOUNDED, span, steps_until

STEP = st.floats(1e-4, 0.5)
RATIO = st.floats(0.0, 1.0)


def brute_force(a, b, seconds):
    elapsed, steps = a, 1
    while elapsed < seconds - 1e-9:
        elapsed += a + b * steps
        steps += 1
    return steps


@given(a=STEP, ratio=RATIO, steps=st.integers(0, 60))
def test_span_is_the_sum_of_the_steps(a, ratio, steps):
    b = a * ratio
    assert span(a, b, steps) == pytest.approx(sum(a + b * j for j in range(steps)))


@given(a=STEP, ratio=RATIO, part=st.floats(-1.0, 300.0))
def test_steps_until_is_the_fewest_steps_that_last_long_enough(a, ratio, part):
    b, seconds = a * ratio, a * part
    steps = steps_until(a, b, seconds)
    # Rounding may only matter where a step ends within 1e-12 s of the deadline.
    near = {brute_force(a, b, seconds - 1e-12), brute_force(a, b, seconds + 1e-12)}
    assert steps in near


@pytest.mark.parametrize(
    ("a", "b", "seconds", "steps"),
    [
        (0.1, 0.0, 0.0, 1),
        (0.1, 0.0, -5.0, 1),
        (0.1, 0.0, 0.1, 1),
        (0.1, 0.0, 0.3, 3),
        (0.1, 0.0, 0.3001, 4),
        (0.1, 0.1, 0.6, 3),
        (0.1, 0.1, 0.61, 4),
        (0.1, 0.0, math.inf, UNBOUNDED),
    ],
)
def test_known_answers(a, b, seconds, steps):
    assert steps_until(a, b, seconds) == steps
