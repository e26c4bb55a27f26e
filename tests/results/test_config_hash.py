from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
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

# Drawing nested values is slow on a machine that does other things.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def backwards(value):
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return value


@PATIENT
@given(CONFIGS)
def test_the_order_of_keys_does_not_matter(config):
    assert config_hash(config) == config_hash(backwards(config))


@PATIENT
@given(CONFIGS, st.integers())
def test_a_value_matters(config, value):
    assert config_hash({**config, "k": value}) != config_hash({**config, "k": value + 1})


def test_whole_floats_are_integers_and_nothing_else_is():
    assert config_hash({"rate": 1}) == config_hash({"rate": 1.0}) == config_hash({"rate": 10e-1})
    different = [{"rate": v} for v in (1, True, "1", [1], None, 1.5, float("inf"))]
    assert len({config_hash(config) for config in different}) == len(different)


def test_where_a_value_stands_matters():
    configs = ({"a": {"b": 1}}, {"a.b": 1}, {"a\\": {"b": 1}}, {"a": [{"b": 1}, {"b": 2}]})
    assert len({config_hash(config) for config in configs}) == len(configs)


def test_where_results_go_does_not_matter_but_only_at_the_top():
    plain = {"seed": 0, "system": {"tags": 1}}
    noise = {"paths": {"runs": "/a"}, "tracking": "none", "hydra": {}, "tags": ["x"]}
    assert config_hash(plain) == config_hash({**plain, **noise})
    assert config_hash(plain) != config_hash({"seed": 0, "system": {"tags": 2}})


@pytest.mark.parametrize(
    ("new", "value"),
    [
        ({"slo": {"scale": 1.0}}, {"slo": {"scale": 2.0}}),
        ({"slo": {"scale": 1}}, {"slo": {"scale": True}}),
        ({"figure": ""}, {"figure": "11a"}),
        (
            {"models": {"types": {"my.own": {"tp": 1}}}},
            {"models": {"types": {"my.own": {"tp": 2}}}},
        ),
        ({"system": {"max_models_per_gpu": None}}, {"system": {"max_models_per_gpu": 3}}),
    ],
)
def test_a_key_counts_unless_it_has_the_default_it_came_with(new, value):
    assert config_hash({"seed": 0} | new) == config_hash({"seed": 0})
    assert config_hash({"seed": 0} | value) != config_hash({"seed": 0})


def test_a_key_that_is_not_in_the_ledger_always_counts():
    assert config_hash({"system": {"prefill": 6}}) != config_hash({"system": {}})


def test_the_host_pool_counts_where_its_table_is_kept():
    small = {"seed": 0, "host_pool": {"sample_s": 1.0}}
    assert config_hash(small) == config_hash({"seed": 0})
    assert config_hash(small | {"keep": ["pool"]}) != config_hash({"seed": 0, "keep": ["pool"]})


def test_an_input_counts_in_place_of_the_key_of_its_name():
    def key(path, **inputs):
        return config_hash({"workload": {"path": path, "format": "azure"}}, inputs)

    one, other = {"workload.path": "sha256:1"}, {"workload.path": "sha256:2"}
    assert key("a.csv", **one) == key("/data/a.csv", **one)
    assert len({key("a.csv"), key("a.csv", **one), key("a.csv", **other)}) == 3
    assert key("a.csv", **one) != key("a.csv", **one, code="sha256:3")


def test_the_hash_is_the_same_on_every_machine():
    config = {"b": [1, 2.5], "a": {"x": None}, "slo": {"scale": 1.0}}
    assert config_hash(config) == "7f213a887de2225a"
    assert config_hash(config, {"workload.path": "sha256:00"}) == "84cb323dd51d8702"


def test_a_value_that_cannot_be_recorded_is_named():
    assert jsonable({"p": Path("a/b"), "t": (1, float("-inf"))}) == {"p": "a/b", "t": [1, "-inf"]}
    with pytest.raises(UserError, match=r"config\.system\.policy: a object cannot be recorded"):
        config_hash({"system": {"policy": object()}})
