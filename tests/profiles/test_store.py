import json
import shutil

import pytest

from aegaeon.errors import UserError
from profiles.files import FOLDER
from profiles.store import load, profile_path, save

PROFILE = ("h800", "qwen2.5-7b", 1)


@pytest.fixture
def spoil(tmp_path):
    path = profile_path(tmp_path, *PROFILE)
    path.parent.mkdir()
    shutil.copy(profile_path(FOLDER, *PROFILE), path)

    def change(keys, value):
        content = json.loads(path.read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        if value is None:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
        path.write_text(json.dumps(content))
        return path

    return change


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["units"], "ms", "`units` must be 's'"),
        (["schema"], 2, "`schema` must be 1"),
        (["model"], "llama2-13b", "`model` must be 'qwen2.5-7b'"),
        (["device"], "h100", "`device` must be 'h800'"),
        (["tp"], 2, "`tp` must be 1"),
        (["tp"], None, "`tp` must be 1"),
        (["prefill", "token_s"], -1e-5, "`prefill.token_s` must be finite and >= 0"),
        (["decode", "base_s"], float("nan"), "`decode.base_s` must be finite"),
        (["decode", "base_s"], float("inf"), "`decode.base_s` must be finite"),
        (["decode", "base_s"], "8e-3", "`decode.base_s` must be a number"),
        (["decode", "base_s"], True, "`decode.base_s` must be a number"),
        (["decode", "context_s"], 0.0, "decode times must grow"),
        (["decode", "request_s"], 0.0, "decode times must grow"),
        (["prefill", "floor_s"], 60.0, "prefill times must grow"),
        (["prefill", "base_s"], None, "lacks a key"),
        (["fit", "decode"], None, "lacks a key"),
        (["range", "max_power"], 1, "one too many"),
    ],
)
def test_bad_profile_is_refused_with_its_name_and_the_fix(spoil, tmp_path, keys, value, message):
    path = spoil(keys, value)
    with pytest.raises(UserError) as error:
        load(*PROFILE, folder=tmp_path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "aegaeon profile fit" in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_broken_json_is_refused(tmp_path, text):
    path = profile_path(tmp_path, *PROFILE)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError, match=r"JSON.*aegaeon profile fit"):
        load(*PROFILE, folder=tmp_path)


def test_missing_profile_says_how_to_make_it(tmp_path):
    with pytest.raises(UserError, match=r"does not exist; make it with `aegaeon profile fit"):
        load(*PROFILE, folder=tmp_path)


def test_what_is_saved_is_what_is_loaded(tmp_path):
    profile = load(*PROFILE)
    path = save(profile, tmp_path)
    assert load(*PROFILE, folder=tmp_path) == profile
    assert path.read_bytes() == profile_path(FOLDER, *PROFILE).read_bytes()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("*/*-tp*.json")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_committed_profile_keeps_its_bytes(path, tmp_path):
    model, _, tp = path.stem.rpartition("-tp")
    again = save(load(path.parent.name, model, int(tp)), tmp_path)
    assert again.read_bytes() == path.read_bytes()


def test_link_variant_shares_the_profile_of_its_gpu():
    assert load("h800_pcie4", "qwen2.5-7b", 1) == load(*PROFILE)


def test_every_committed_profile_is_sound():
    published = 0
    for path in sorted(FOLDER.glob("*/*-tp*.json")):
        model, _, tp = path.stem.rpartition("-tp")
        profile = load(path.parent.name, model, int(tp))
        assert profile.median_error < 0.13
        # The live engine's grid ends at a model's length limit; its folder has the engine's costs.
        measured_here = (path.parent / "engine.json").exists()
        assert measured_here == bool(profile.machine)
        points = min(profile.prefill_quality.points, profile.decode_quality.points)
        assert points >= (20 if measured_here else 60)
        published += not measured_here
    assert published == 29


def test_fits_agree_with_the_published_coefficients():
    # Plain least squares on the same data, from the reference notes: qwen2.5-7b on H800.
    fit = load(*PROFILE)
    for batch, length in [(1, 512), (8, 512), (32, 256), (100, 64)]:
        published = 8.45e-3 + 4.43e-8 * batch * length + 1.07e-4 * batch
        assert fit.decode.step_s(batch, batch * length) == pytest.approx(published, rel=0.04)
    for length in (1024, 2048, 4096):
        published = 5.68e-3 + 2.27e-5 * length + 2.05e-10 * length**2
        assert fit.prefill.seconds(length, length**2) == pytest.approx(published, rel=0.06)


@pytest.mark.parametrize(("batch", "length"), [(1, 512), (16, 512), (64, 512)])
def test_a100_decode_lies_between_two_other_engines(batch, length):
    # OPT-13B on an A100 80 GB, in ms, from DistServe's public repository.
    distserve = 19.9 + 6.27e-4 * batch * length + 0.0385 * batch
    vllm = 23.5 + 5.93e-4 * batch * length + 0.0607 * batch
    fit = load("a100", "llama2-13b", 1).decode
    assert distserve < 1e3 * fit.step_s(batch, batch * length) < vllm
