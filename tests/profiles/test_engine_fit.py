"""Profiles of the live engine: coefficients that made the samples are found, and used at once."""

import json
from dataclasses import asdict, replace

import pandas as pd
import pytest

from aegaeon.core import Overheads
from aegaeon.errors import UserError
from profiles.catalogue import load_device, load_model
from profiles.cost import cost_model
from profiles.engine_fit import fit_engine, fit_type
from profiles.engine_profile import engine_path, load_engine, measured_device, save_engine
from profiles.engine_samples import COLUMNS
from profiles.roofline_fit import committed
from profiles.store import load, save

TYPE = "tiny-qwen2"
SPEC = load_model(TYPE)
CPU = load_device("cpu")
MACHINE = {"processor": "p", "torch": "2"}
POINTS = [(n, b) for n in (8, 32, 64, 128, 240) for b in (1, 2, 4, 8)]


def rows(kind, stage, points, seconds, nbytes=None, steps=1):
    made = []
    for instance, plays in enumerate(("prefill", "decode")):
        for repeat in range(3):
            for n, b in points:
                # One repeat in three is disturbed; the stage that is not played is far off.
                value = seconds(n, b) * (5.0 if repeat == 2 else 1.0)
                mine = stage in ("", plays)
                size = nbytes(n, b) if nbytes else 0
                value = value if mine else 9.0
                made.append((instance, mine, kind, stage, TYPE, float(n), b, steps, size, value))
    return pd.DataFrame(made, columns=list(COLUMNS))


@pytest.fixture
def samples():
    one = [(16, 1)]
    return pd.concat(
        [
            rows("prefill", "prefill", POINTS, lambda n, b: max(0.004, 0.002 + 1e-5 * n * b)),
            rows("decode", "decode", POINTS, lambda n, b: 0.003 + 1e-7 * n * b + 1e-4 * b),
            rows("overhead", "decode", POINTS, lambda n, b: 5e-5),
            rows("admit", "prefill", POINTS, lambda n, b: 3e-4 * b),
            rows("admit", "decode", POINTS, lambda n, b: 5e-4 * b),
            rows(
                "kv_in",
                "decode",
                POINTS,
                lambda n, b: 2e-4 + n * b / 2e6,
                lambda n, b: 1000 * n * b,
            ),
            rows("host", "", one, lambda n, b: 1.5e-3, lambda n, b: 1_000_000),
            rows("slot", "", one, lambda n, b: 4e-4),
            rows("send", "", one, lambda n, b: 1e-3),
            rows("hand_over", "", one, lambda n, b: 2e-3),
            rows("alone", "prefill", one, lambda n, b: 0.004 + 3e-4 + 5e-5 + 7e-4),
            rows("alone", "decode", one, lambda n, b: 4 * 0.0031 + 5e-4 + 2e-4 + 5e-5, steps=4),
        ],
        ignore_index=True,
    ).query("kind != 'alone' or plays")


def fitted_engine(samples):
    profiles = [fit_type(samples, SPEC, "cpu", MACHINE)]
    return fit_engine(samples, profiles, MACHINE, inline_copies=True)


def test_steps_and_switches_are_those_that_made_the_samples(samples):
    profile = fit_type(samples, SPEC, "cpu", MACHINE)
    assert profile.prefill.seconds(100, 0) == pytest.approx(0.004, rel=0.01)
    assert profile.prefill.seconds(1000, 0) == pytest.approx(0.012, rel=0.01)
    for n, b in [(10, 1), (60, 3), (200, 8)]:
        seconds = 0.003 + 1e-7 * n * b + 1e-4 * b
        assert profile.decode.step_s(b, n * b) == pytest.approx(seconds, rel=0.01)
    straight = {"base_s": 0.003, "context_s": 1e-7, "request_s": 1e-4}
    found = {key: getattr(profile.decode, key) for key in straight}
    assert found == pytest.approx(straight, rel=0.01)
    assert asdict(profile.switch) == pytest.approx({"host_s": 1.5e-3, "activate_s": 4e-4})
    assert profile.median_error < 0.01


def test_steps_that_no_straight_line_follows_are_found(samples, tmp_path):
    bends = {1: 0.006, 2: 0.009, 4: 0.009, 8: 0.010}
    bent = [
        rows("prefill", "prefill", POINTS, lambda n, b: 0.004 * (n * b) ** 0.5 + 5e-4 * (b - 1)),
        rows("decode", "decode", POINTS, lambda n, b: bends[b]),
    ]
    others = samples[~samples["kind"].isin(["prefill", "decode"])]
    profile = fit_type(pd.concat([*bent, others], ignore_index=True), SPEC, "cpu", MACHINE)
    for batch, seconds in bends.items():
        assert profile.decode.step_s(batch, 50 * batch) == pytest.approx(seconds, rel=0.01)
    assert profile.decode_quality.median_error < 0.01
    assert profile.prefill.prompt_s == pytest.approx(5e-4, rel=0.1)
    for n, b in POINTS:
        seconds = 0.004 * (n * b) ** 0.5 + 5e-4 * (b - 1)
        assert profile.prefill.seconds(n * b, n * n * b, b) == pytest.approx(seconds, rel=0.02)
    save(profile, tmp_path)
    assert load("cpu", TYPE, 1, tmp_path) == profile
    cost = cost_model([SPEC], CPU, tmp_path)[TYPE]
    assert cost.decode.step_s(2, 0) == profile.decode.step_s(2, 0)
    assert cost.prefill.seconds(40, 800, 2) == profile.prefill.seconds(40, 800, 2)


@pytest.mark.parametrize("curve", [[[1, 0.1]], [[1, 0.1], [1, 0.2]], [[1], [2]], [[2, 1], [1, 2]]])
def test_a_curve_that_is_none_is_refused(samples, tmp_path, curve):
    path = save(fit_type(samples, SPEC, "cpu", MACHINE), tmp_path)
    content = json.loads(path.read_text())
    content["decode"]["curve"] = curve
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"decode\.curve.*the first number rising"):
        load("cpu", TYPE, 1, tmp_path)


def test_slowdown_by_neighbours_is_the_median_of_paired_points(samples):
    pairs = [(16, 1), (16, 4), (64, 1)]
    free = [rows(f"{k}_free", k, pairs, lambda n, b: 1e-3 * b) for k in ("prefill", "decode")]
    crowd = [
        rows("prefill_crowd", "prefill", pairs, lambda n, b: 1.2e-3 * b),
        rows("decode_crowd", "decode", pairs, lambda n, b: 0.9e-3 * b),
    ]
    overheads = fitted_engine(pd.concat([samples, *free, *crowd], ignore_index=True)).overheads
    assert overheads.crowd_prefill == pytest.approx(1.2)
    assert overheads.crowd_decode == 1.0
    assert fitted_engine(samples).overheads.crowd_prefill == 1.0


def test_overheads_and_link_are_those_that_made_the_samples(samples):
    engine = fitted_engine(samples)
    made = Overheads(1e-3, 2e-3, 3e-4, 5e-4, 5e-5, 2e-4, 7e-4, 0.0, inline_copies=True)
    assert asdict(engine.overheads) == pytest.approx(asdict(made), rel=0.02, abs=2e-5)
    assert engine.kv_bandwidth == pytest.approx(2e9, rel=0.01)


def test_what_is_saved_is_what_costs_and_devices_use(samples, tmp_path):
    profile = fit_type(samples, SPEC, "cpu", MACHINE)
    engine = fitted_engine(samples)
    save(profile, tmp_path)
    save_engine(engine, tmp_path)
    assert load("cpu", TYPE, 1, tmp_path) == profile
    assert load_engine("cpu", tmp_path) == engine
    cost = cost_model([SPEC], CPU, tmp_path)[TYPE]
    assert (cost.switch.host_s, cost.switch.activate_s) == (1.5e-3, 4e-4)
    assert cost.decode.base_s == profile.decode.base_s
    assert cost.source.startswith("profile cpu/tiny-qwen2-tp1")
    device, overheads = measured_device(CPU, tmp_path)
    assert device.link_bandwidth == engine.kv_bandwidth
    assert overheads == engine.overheads


def test_without_an_engine_profile_the_device_is_as_its_data_sheet_says(tmp_path):
    h800 = load_device("h800")
    assert measured_device(h800, tmp_path) == (h800, Overheads())
    assert measured_device(h800) == (h800, Overheads())


def test_decoding_that_does_not_grow_is_allowed_where_it_was_measured(samples, tmp_path):
    flat = samples.copy()
    flat.loc[flat["kind"] == "decode", "seconds"] = 0.003
    profile = fit_type(flat, SPEC, "cpu", MACHINE)
    assert profile.decode.context_s == 0.0
    save(profile, tmp_path)
    assert load("cpu", TYPE, 1, tmp_path) == profile
    save(replace(profile, switch=None), tmp_path)
    with pytest.raises(UserError, match="decode times must grow"):
        load("cpu", TYPE, 1, tmp_path)


def test_switches_without_host_copies_are_estimated_from_the_link(samples):
    profile = fit_type(samples[samples["kind"] != "host"], SPEC, "cpu", MACHINE)
    assert profile.switch.host_s == pytest.approx(4e-4 + SPEC.weight_bytes / 2e9, rel=0.01)


def test_too_few_points_are_refused(samples):
    few = samples[samples["tokens"] == 8]
    with pytest.raises(UserError, match=r"tiny-qwen2: 4 measured points are too few"):
        fit_type(few, SPEC, "cpu", MACHINE)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"turn_s": ', '"turn_s": -', "`turn_s` must be finite"),
        ('"device": "cpu"', '"device": "gpu"', "of cpu"),
        ('"send_s"', '"sent_s"', "lacks a key or has one too many"),
        ('"kv_bandwidth": ', '"kv_bandwidth": 0.0, "x": ', "one too many"),
    ],
)
def test_bad_engine_profiles_are_refused_with_the_fix(samples, tmp_path, old, new, message):
    save_engine(fitted_engine(samples), tmp_path)
    path = engine_path(tmp_path, "cpu")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        load_engine("cpu", tmp_path)
    assert str(path) in str(error.value)
    assert "aegaeon profile" in str(error.value)


def test_the_roofline_is_calibrated_without_live_profiles(samples, tmp_path):
    save(fit_type(samples, SPEC, "cpu", MACHINE), tmp_path)
    save(load("h800", "qwen2.5-7b", 1), tmp_path)
    assert [pair.device.name for pair in committed(tmp_path)] == ["h800"]
