from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegaeon.errors import UserError
from aegaeon.results.config_hash import config_hash, jsonable

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
CONFIGS = st.dictionaries(
    st.text(),
    st.recursive(
        LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
    ),
    max_size=5,
)


def backwards(value):
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return value


@given(CONFIGS)
def test_the_order_of_keys_does_not_matter(config):
    assert config_hash(config) == config_hash(backwards(config))


@given(CONFIGS, st.integers())
def test_a_value_matters(config, value):
    assert config_hash({**config, "k": value}) != config_hash({**config, "k": value + 1})


def test_whole_floats_are_integers_and_nothing_else_is():
    assert config_hash({"rate": 1}) == config_hash({"rate": 1.0}) == config_hash({"rate": 10e-1})
    different = [{"rate": v} for v in (1, True, "1", [1], None, 1.5, float("inf"))]
    assert len({config_hash(config) for config in different}) == len(different)


def test_where_results_go_does_not_matter_but_only_at_the_top():
    plain = {"seed": 0, "system": {"tags": 1}}
    noise = {"paths": {"runs": "/a"}, "tracking": "none", "hydra": {}, "tags": ["x"]}
    assert config_hash(plain) == config_hash({**plain, **noise})
    assert config_hash(plain) != config_hash({"seed": 0, "system": {"tags": 2}})


def test_the_hash_is_the_same_on_every_machine():
    assert config_hash({"b": [1, 2.5], "a": {"x": None}}) == "5281e25c9c65a043"


def test_a_value_that_cannot_be_recorded_is_named():
    assert jsonable({"p": Path("a/b"), "t": (1, float("-inf"))}) == {"p": "a/b", "t": [1, "-inf"]}
    with pytest.raises(UserError, match=r"config\.system\.policy: a object cannot be recorded"):
        config_hash({"system": {"policy": object()}})
