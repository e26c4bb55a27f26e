import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from aegaeon.core import ModelSpec
from aegaeon.errors import UserError
from profiles.catalogue import load_device, load_model
from profiles.files import FOLDER
from profiles.roofline import load_roofline, predict, rank_kv_bytes
from profiles.roofline_fit import calibrate, committed, errors, recalibrate
from profiles.roofline_table import MARK, update_readme


def test_committed_constants_are_physical():
    c = load_roofline().constants
    assert 0.5 < c.memory_efficiency < 1
    assert 0.3 < c.mfu < 1
    assert 1e-5 < c.layer_s < 1e-3
    assert 1e-6 < c.request_s < 1e-3
    assert c.collective_bandwidth < 2e11  # half of H800's 400 GB/s of NVLink, one direction


def test_roofline_is_close_to_the_fits():
    constants = load_roofline().constants
    medians = {}
    for pair in committed():
        prefill, decode = errors(pair, constants)
        medians[pair.device.name, pair.spec.type, pair.spec.tp] = (
            np.median(prefill),
            np.median(decode),
        )
    prefill, decode = np.array(list(medians.values())).T
    assert prefill.max() < 0.40
    assert decode.max() < 0.25
    assert np.median(prefill) < 0.15
    assert np.median(decode) < 0.08
    assert load_roofline().median_error < 0.20


def test_recalibration_writes_the_committed_bytes(tmp_path):
    for path in FOLDER.glob("*/*-tp*.json"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / path.parent.name)
    table = recalibrate(tmp_path)
    assert (tmp_path / "roofline.json").read_bytes() == (FOLDER / "roofline.json").read_bytes()
    readme = tmp_path / "README.md"
    readme.write_text(
        re.sub(f"{MARK}.*{MARK}", MARK * 2, (FOLDER / "README.md").read_text(), flags=re.S)
    )
    update_readme(readme, table)
    assert readme.read_bytes() == (FOLDER / "README.md").read_bytes()


def test_calibration_finds_the_constants_behind_synthetic_fits():
    truth = load_roofline().constants
    pairs = []
    for pair in committed():
        prefill, decode = predict(pair.spec, pair.device, truth)
        pairs.append(replace(pair, profile=replace(pair.profile, prefill=prefill, decode=decode)))
    found = calibrate(pairs)
    for name in type(truth).__slots__:
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=1e-4)


def test_opt_66b_on_four_a100_is_near_two_published_engines():
    # DistServe's repository, ms. OPT's FFN has two matrices of 36,864, like three of 24,576.
    opt = ModelSpec("opt", "opt", 6.57e10, 64, 9216, 24576, 72, 72, 128, 2048, tp=4)
    prefill, decode = predict(opt, load_device("a100"), load_roofline().constants)
    for n in (256, 1024, 2048):
        distserve = 29.4 + 0.151 * n + 8.32e-6 * n**2
        vllm = 43 + 0.213 * n + 4.6e-5 * n**2
        assert distserve < 1e3 * prefill.seconds(n, n**2) < vllm
    for batch, context in [(1, 512), (16, 8192), (64, 32768)]:
        distserve = 30.8 + 4.52e-4 * context + 0.0633 * batch
        vllm = 39.6 + 6.95e-4 * context + 0.136 * batch
        assert distserve < 1e3 * decode.step_s(batch, context) < 1.1 * vllm


def test_more_ranks_share_weights_and_heads_until_there_is_one_head():
    spec = load_model("yi-1.5-9b")
    sizes = [rank_kv_bytes(replace(spec, tp=tp)) for tp in (1, 2, 4, 8)]
    assert sizes == [96 * 1024, 48 * 1024, 24 * 1024, 24 * 1024]


@pytest.mark.parametrize("device", ["h800", "h20", "a10", "h200"])
def test_larger_models_and_batches_take_longer(device):
    constants, gpu = load_roofline().constants, load_device(device)
    small, large = (predict(load_model(t), gpu, constants) for t in ("qwen1.5-1.8b", "llama2-13b"))
    assert small[0].seconds(2048, 2048**2) < large[0].seconds(2048, 2048**2)
    assert small[1].step_s(8, 8192) < large[1].step_s(8, 8192) < large[1].step_s(16, 16384)


@pytest.mark.parametrize(
    ("key", "value"),
    [("mfu", 0.0), ("mfu", float("nan")), ("layer_s", -1.0), ("mfu", "fast"), ("mfu", None)],
)
def test_bad_constants_are_refused(tmp_path, key, value):
    content = json.loads((FOLDER / "roofline.json").read_text())
    content["constants"][key] = value
    (tmp_path / "roofline.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"roofline\.json.*aegaeon profile roofline"):
        load_roofline(tmp_path)


def test_constants_in_other_units_are_refused(tmp_path):
    text = (FOLDER / "roofline.json").read_text()
    (tmp_path / "roofline.json").write_text(text.replace('"units": "s"', '"units": "ms"'))
    with pytest.raises(UserError, match=r"`units` 's'; make it again"):
        load_roofline(tmp_path)


def test_calibration_without_profiles_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match=r"aegaeon profile fit"):
        recalibrate(tmp_path)


def test_one_degree_cannot_determine_the_collectives():
    with pytest.raises(UserError, match="add measured pairs"):
        calibrate([pair for pair in committed() if pair.spec.tp == 1])
