"""A policy or a profile from outside of this program is an input of a run; our own is not."""

import importlib
import shutil
import sys

import pytest

from aegaeon.errors import UserError
from aegaeon.experiment.config import from_hydra
from aegaeon.experiment.outside import KEY, outside_code, outside_profiles
from aegaeon.policy.system import Aegaeon
from aegaeon.results.config_hash import config_hash
from baselines.muxserve import MuxServe
from profiles import files

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


def test_a_profile_of_the_users_own_counts_where_a_run_reads_it(tmp_path, monkeypatch, composed):
    config = from_hydra(composed())
    assert outside_profiles(config) == {}
    monkeypatch.setattr(files, "FOLDERS", (tmp_path, files.FOLDER))
    shutil.copytree(files.FOLDER / "h800", tmp_path / "h800")
    assert outside_profiles(config) == {}
    (file,) = (tmp_path / "h800").glob("qwen2.5-7b-tp1.json")
    file.write_text(file.read_text() + " ")
    engine = tmp_path / "h800" / "engine.json"
    engine.write_text("{}")
    unread = tmp_path / "h20" / file.name
    unread.parent.mkdir()
    unread.write_text("{}")
    found = outside_profiles(config)
    assert set(found) == {f"profiles/h800/{name}" for name in (file.name, "engine.json")}
    file.write_text(file.read_text() + " ")
    assert outside_profiles(config) != found
    assert outside_profiles(from_hydra(composed("backend=occupancy"))) == {}
