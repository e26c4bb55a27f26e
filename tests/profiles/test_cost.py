import subprocess
import sys
from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegaeon.errors import UserError
from profiles.catalogue import load_device, load_model
from profiles.cost import cost_model, perturbed
from profiles.files import FOLDER
from profiles.store import load, save

H800 = load_device("h800")
MARKET = [load_model("qwen2.5-7b", "a"), load_model("internlm2.5-7b", "b")]


def test_measured_pair_uses_its_profile_and_others_the_roofline():
    costs = cost_model(MARKET, H800)
    fit = load("h800", "qwen2.5-7b", 1)
    assert list(costs) == ["a", "b"]
    assert (costs["a"].prefill, costs["a"].decode) == (fit.prefill, fit.decode)
    assert costs["a"].source == "profile h800/qwen2.5-7b-tp1 (median error 4.4%)"
    assert costs["b"].source.startswith("roofline (median error ")


def test_degree_without_a_profile_uses_the_roofline():
    (cost,) = cost_model([replace(MARKET[0], tp=4)], H800).values()
    assert cost.source.startswith("roofline")
    assert cost.weight_bytes == MARKET[0].weight_bytes / 4
    assert cost.kv_bytes_per_token == 14 * 1024


def test_switch_is_the_papers_formula_and_the_link_is_the_devices():
    model = load_model("llama2-13b")
    fast, slow = (cost_model([model], load_device(d))["llama2-13b"] for d in ("h800", "h800_pcie4"))
    assert slow.switch.host_s == pytest.approx(26.03e9 / (32e9 * 0.625), rel=1e-3)
    assert fast.switch.host_s == pytest.approx(slow.switch.host_s / 2)
    assert fast.switch.activate_s == pytest.approx(2 * 26.03e9 / 3.35e12, rel=1e-3)
    assert replace(fast, switch=replace(fast.switch, host_s=slow.switch.host_s)) == slow


def test_many_models_of_one_type_share_one_cost():
    models = [replace(MARKET[0], name=f"m{i}") for i in range(2000)]
    costs = cost_model(models, H800)
    assert len(costs) == 2000
    assert len({id(cost) for cost in costs.values()}) == 1


def test_own_folder_comes_before_the_committed_profiles(tmp_path):
    profile = load("h800", "qwen2.5-7b", 1)
    save(replace(profile, decode=replace(profile.decode, base_s=1.0)), tmp_path)
    costs = cost_model(MARKET, H800, tmp_path)
    assert costs["a"].decode.base_s == 1.0
    assert costs["b"] == cost_model(MARKET, H800)["b"]


def test_broken_profile_is_an_error_not_a_reason_for_the_roofline(tmp_path):
    path = save(load("h800", "qwen2.5-7b", 1), tmp_path)
    path.write_text(path.read_text().replace('"units": "s"', '"units": "ms"'))
    with pytest.raises(UserError, match="`units` must be 's'"):
        cost_model(MARKET, H800, tmp_path)


def times(part):
    """Every number of a part's cost that has no curve."""
    return [value for value in astuple(part) if isinstance(value, float)]


@given(seed=st.integers(0, 2**32 - 1), sigma=st.floats(0, 1))
def test_perturbed_costs_keep_their_shape_and_sizes(seed, sigma):
    costs = cost_model(MARKET, H800)
    wrong = perturbed(costs, sigma, seed)
    assert wrong == perturbed(dict(reversed(costs.items())), sigma, seed)
    for name, cost in costs.items():
        mine = wrong[name]
        assert (mine.weight_bytes, mine.kv_bytes_per_token) == (
            cost.weight_bytes,
            cost.kv_bytes_per_token,
        )
        for part in ("prefill", "decode", "switch"):
            pairs = zip(times(getattr(mine, part)), times(getattr(cost, part)), strict=True)
            ratios = [wrong / true for wrong, true in pairs if true]
            assert len(ratios) >= 2
            assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_perturbation_is_lognormal_of_the_given_sigma():
    models = [replace(MARKET[0], name=f"m{i}") for i in range(2000)]
    costs = cost_model(models, H800)
    wrong = perturbed(costs, 0.3, seed=1)
    logs = np.log([wrong[n].decode.base_s / costs[n].decode.base_s for n in costs])
    assert logs.std() == pytest.approx(0.3, rel=0.1)
    assert abs(logs.mean()) < 0.03
    assert perturbed(costs, 0.0, seed=1) == costs
    with pytest.raises(UserError, match="sigma"):
        perturbed(costs, -0.1, seed=1)


def test_costs_need_neither_torch_nor_pandas():
    code = "import sys, profiles.cost; print({'torch', 'ray', 'vllm', 'pandas'} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER.parent
    )
    assert run.stdout.strip() == "set()"
