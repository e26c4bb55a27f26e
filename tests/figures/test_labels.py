"""Labels never overlap, keep their order and do not move without need."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figures.labels import spread


def test_known_places():
    assert spread([], [], 0, 100) == []
    assert spread([20, 80], [10, 10], 0, 100) == [20, 80]
    assert spread([50, 50], [10, 10], 0, 100) == [45, 55]
    assert spread([2, 3], [10, 20], 0, 100) == [5, 20]
    assert spread([100, 99, 0], [10, 10, 10], 0, 100) == [95, 85, 5]


@given(
    st.lists(st.tuples(st.floats(-20, 120), st.floats(1, 30)), min_size=1, max_size=9),
)
def test_labels_fit_and_do_not_overlap(labels):
    wanted, sizes = [list(part) for part in zip(*labels, strict=True)]
    shrink = min(1.0, 100 / sum(sizes))
    placed = spread(wanted, sizes, 0, 100)
    boxes = sorted((at, size * shrink) for at, size in zip(placed, sizes, strict=True))
    assert boxes[0][0] - boxes[0][1] / 2 >= -1e-6
    assert boxes[-1][0] + boxes[-1][1] / 2 <= 100 + 1e-6
    for (left, width), (right, other) in pairwise(boxes):
        assert right - left >= (width + other) / 2 - 1e-6
    for i, at in enumerate(wanted):
        for j, other in enumerate(wanted):
            if at < other:
                assert placed[i] < placed[j]


@given(st.lists(st.integers(0, 8), min_size=1, max_size=8, unique=True))
def test_labels_with_room_stay(slots):
    wanted = [10.0 * slot + 10 for slot in slots]
    assert spread(wanted, [8.0] * len(wanted), 0, 100) == pytest.approx(wanted)
