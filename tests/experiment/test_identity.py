"""Whatever a simulated run reads is in the run's hash, and in its row's `overrides`."""

from copy import deepcopy

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import open_dict

from aegaeon.experiment.compose import compose_raw
from aegaeon.experiment.overrides import overrides
from aegaeon.experiment.points import settings_and_seeds
from aegaeon.results.config_hash import canonical, config_hash, jsonable, leaves, point_hash
from aegaeon.results.variant import OWN_COLUMN, curve_hash, differences
from tests.support.schema_keys import all_keys

# Keys that say nothing of what is simulated, and why.
EXCLUDED = {
    "paths.runs": "the folder of results",
    "paths.stored": "the folder of results",
    "tracking.uri": "the place of an index of results",
    "keep": "the tables that are stored; the numbers in them are the same",
}
# Every class that a simulated run can be made of.
CASES = [
    ["keep=[pool]"],
    ["system=serverlessllm"],
    ["system=serverlessllm_paper"],
    ["system=muxserve"],
    ["system=sleep_mode"],
    ["workload=azure", "workload.path=a.csv"],
    ["backend=occupancy"],
]
LIVE = {"base_live", "base_switch_cost"}


def settings(*arguments):
    return {**settings_and_seeds(compose_raw(["~local", *arguments]))[0], "seed": 0}


@pytest.fixture(scope="module")
def cases():
    """Return a configuration per key, by the path of the key: the first that has the key."""
    found = {}
    for arguments in CASES:
        config = settings(*arguments)
        for path, _ in leaves(jsonable(config)):
            found.setdefault(path, config)
    return found


def other(value):
    """Return another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 1.25 + 0.1
        case str():
            return f"{value}, 'x' y"
        case list():
            return [*value, "series"]
    return 3


def changed(config, path):
    config = deepcopy(config)
    part = config
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = other(part[path[-1]])
    return config, part[path[-1]]


def test_every_key_is_in_the_hash_and_in_the_overrides_or_excluded_with_a_reason(cases):
    for path, config in cases.items():
        key, (new, value) = ".".join(path), changed(config, path)
        same, said = config_hash(new) == config_hash(config), differences(new, config)
        if key in EXCLUDED:
            assert (same, said) == (True, []), key
        elif key == "seed":
            assert (same, said, point_hash(new)) == (False, [], point_hash(config))
        else:
            assert not same, key
            assert point_hash(new) != point_hash(config), key
            assert (curve_hash(new) == curve_hash(config)) == (key in OWN_COLUMN), key
            (override,) = OverridesParser.create().parse_overrides(said)
            assert override.key_or_group == key
            assert canonical(override.value()) == canonical(value), key


def test_no_key_of_a_schema_is_left_out(cases):
    known = {".".join(path) for path in cases}
    types = {".".join((*path[:2], "*", *path[3:])) for path in cases if path[1:2] == ("types",)}
    shares = {"models.shares.*"}
    simulated = {key for key, owners in all_keys().items() if set(owners) - LIVE}
    assert simulated <= known | types | shares


def test_a_list_of_a_key_and_a_trace_by_another_path():
    trace = {"workload": {"path": "/data/one.csv", "format": "azure"}}
    assert differences(trace, {"workload": {"path": "one.csv", "format": "azure"}}) == []
    assert differences({"a": 1, "b": None}, {"b": 2, "c": 3}) == ["+a=1", "b=null", "~c"]


def said(*arguments):
    """Return what a row of these arguments would say, by composing as a job does."""
    cfg = compose_raw(arguments, hydra=True)
    with open_dict(cfg):
        hydra = cfg.pop("hydra")
    return overrides({**settings_and_seeds(cfg)[0], "seed": 0}, hydra)


def test_a_swept_key_without_a_column_of_its_own_is_named(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nname: lab\nhydra: {sweeper: {params: {system.qmax_s: '1,2'}}}\n"
    (tmp_path / "experiment" / "lab.yaml").write_text(text)
    added = f"hydra.searchpath=[file://{tmp_path}]"
    assert said(added, "experiment=lab", "system.qmax_s=1") == "system.qmax_s=1"


def test_settings_of_this_machine_are_named(tmp_path):
    (tmp_path / "local").mkdir()
    file = tmp_path / "local" / "default.yaml"
    added = (f"hydra.searchpath=[file://{tmp_path}]", "experiment=fig11a", "models.count=72")
    text = "# @package _global_\nsystem: {qmax_s: 0.2}\npaths: {runs: x}\n"
    file.write_text(text)
    assert said(*added) == "system.qmax_s=0.2"
    file.write_text("# @package _global_\npaths: {runs: x}\n")
    assert said(*added) == ""
    file.rename(tmp_path / "local" / "other.yaml").write_text(text)
    assert said(*added, "local=other") == "system.qmax_s=0.2"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("experiment=fig11a system=muxserve models.count=20 paths.runs=x seeds=[4]", ""),
        ("experiment=fig14 setup=32x05", ""),
        ("experiment=fig13a system=aegaeon system.prefill=6 slo.tbt_s=0.1", ""),
        ("name=mine models.count=20 system=sleep_mode workload.rate_rps=0.3", ""),
        (
            "experiment=fig17_left slo.tbt_s=0.2 system.qmax_s=1.0 workload=bursty",
            "workload=bursty system.qmax_s=1",
        ),
        (
            "experiment=fig11a system=sleep_mode device@hardware.device=h20 workload.rate_rps=0.2",
            "device@hardware.device=h20 system=sleep_mode workload.rate_rps=0.2",
        ),
        ("experiment=fig11a name=mine slo=half", "experiment=fig11a slo=half"),
        ("name=fig11a backend.misprediction=0.5", "backend.misprediction=0.5 name=fig11a"),
    ],
)
def test_a_row_says_what_differs_from_its_experiment(arguments, expected):
    assert said(*arguments.split()) == expected
