"""A policy from outside of this program counts with its code; our own does not."""

import importlib
import sys

import pytest

from aegaeon.errors import UserError
from aegaeon.experiment.outside import KEY, outside_code
from aegaeon.policy.system import Aegaeon
from aegaeon.results.config_hash import config_hash
from baselines.muxserve import MuxServe

SOURCE = "class Mine:\n    name = 'mine'\n"


@pytest.mark.parametrize("place", ["mine_alone.py", "mine_package/policy.py"])
def test_an_edit_of_a_policy_from_outside_makes_another_run(tmp_path, monkeypatch, place):
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    (file.parent / "helper.py").write_text("A = 1\n")
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    name = place.removesuffix(".py").replace("/", ".")
    system = importlib.import_module(name).Mine()
    before = outside_code(system)
    assert outside_code(system) == before
    file.write_text(SOURCE + "# edited\n")
    after = outside_code(system)
    config = {"system": {"name": "mine"}}
    assert config_hash(config, before) != config_hash(config, after) != config_hash(config)
    (file.parent / "helper.py").write_text("A = 2\n")
    assert (outside_code(system) == after) == ("/" not in place)
    monkeypatch.delattr(sys.modules[name.partition(".")[0]], "__path__", raising=False)
    monkeypatch.setattr(sys.modules[name], "__file__", None)
    with pytest.raises(UserError, match=rf"system: Mine of module {name} has no source file"):
        outside_code(system)


def test_our_own_systems_keep_their_hashes():
    assert KEY not in outside_code(Aegaeon())
    assert outside_code(MuxServe()) == {}
