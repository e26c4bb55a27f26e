"""Rendering: complete registry, refusals, byte stability, and what the figures show."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from aegaeon.errors import UserError
from aegaeon.results.advice import DRAWN
from aegaeon.results.store import NotStoredError
from aegaeon.scoring.goodput import Crossing
from figures import REGISTRY, draw, fig16
from figures.header import load_label
from figures.paper import references
from figures.render import render
from figures.style import LOOKS, MAIN, look
from tests.support.synthetic_details import detail_rows, details, write_experiment
from tests.support.synthetic_tables import CROSSINGS, sweep_table

ROOT = Path(__file__).parents[2]
WHOLE = {"overview", "fig04", "fig11", "fig12", "fig13", "fig17", "sleep_mode", "live_compare"}
WHOLE |= {"fidelity"}
DETAILED = {"fig07", "fig14", "fig15a", "fig15b", "fig16", "fig17_left", "fig17_right"}


def texts(figure):
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}


def test_registry_names_every_figure_and_panel():
    assert set(REGISTRY) == WHOLE | DETAILED | set(CROSSINGS)
    assert set(references()) == {"fig04"} | DETAILED | set(CROSSINGS)


# One figure of each kind: lines, bars, stacked bars, steps, points.
KINDS = ("fig11a", "fig07", "fig14", "fig15a", "fidelity")


@pytest.fixture(scope="module")
def drawn(stored, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, render(KINDS, stored, out, progress=False).paths


def complete(written, names, out):
    assert {path.name for path in written} == {f"{n}.{k}" for n in names for k in ("pdf", "png")}
    assert all(path.stat().st_size > 5000 for path in written)
    assert sorted(written) == sorted(out.iterdir())


def test_figures_are_drawn_as_pdf_and_png(drawn):
    complete(drawn[1], KINDS, drawn[0])


@pytest.mark.slow
def test_every_figure_is_drawn(stored, tmp_path):
    complete(render([], stored, tmp_path / "out", progress=False).paths, REGISTRY, tmp_path / "out")


def test_bytes_do_not_depend_on_the_process(stored, drawn, tmp_path):
    code = "import sys; from pathlib import Path; from figures.render import render; "
    code += "render(sys.argv[3:], *map(Path, sys.argv[1:3]), progress=False)"
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    names = KINDS[:2]
    command = [sys.executable, "-c", code, str(stored), str(tmp_path / "out"), *names]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True)
    again = sorted((tmp_path / "out").iterdir())
    assert len(again) == 2 * len(names)
    for path in again:
        assert path.read_bytes() == (drawn[0] / path.name).read_bytes(), path.name


def test_files_name_no_date_and_no_version(drawn):
    for path in drawn[1]:
        assert b"CreationDate" not in path.read_bytes()
        assert b"atplotlib" not in path.read_bytes()


def test_unknown_name_is_refused_before_drawing(stored, tmp_path):
    with pytest.raises(UserError, match=r"unknown figure fig99; known: .*fig11a"):
        render(["fig11a", "fig99"], stored, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["fig11a", "fig04", "series/fig04", "pool/fig14"])
def test_missing_table_names_the_command(stored, tmp_path, missing):
    copy = shutil.copytree(stored, tmp_path / "stored")
    (copy / f"{missing}.parquet").unlink()
    experiment = missing.rpartition("/")[2]
    figure = "fig16" if experiment == "fig14" else experiment
    with pytest.raises(UserError, match=rf"{missing}.parquet.*experiment={experiment}"):
        draw(figure, copy)


def test_damaged_series_is_refused(stored, tmp_path):
    copy = shutil.copytree(stored, tmp_path / "stored")
    (copy / "series" / "fig04.parquet").write_bytes(b"not a table")
    with pytest.raises(UserError, match=r"series/fig04.parquet.*experiment=fig04"):
        draw("fig04", copy)


def test_panel_shows_source_hardware_values_and_the_papers(stored):
    shown = texts(draw("fig11a", stored))
    assert any("Simulated · synthetic, 16 GPUs" in text for text in shown)
    assert {"69", "34", "43", "32", "70", "MuxServe", "Aegaeon"} <= shown
    assert any(re.search(r"ours 2\.0×, authors’ setting \d\.\d×, paper 2×", text) for text in shown)


def test_presets_can_be_left_out(stored):
    with_presets, without = (texts(draw("fig11a", stored, presets=on)) for on in (True, False))
    assert with_presets - without == {look(name).label for name in LOOKS if name not in MAIN}


def test_a_figure_gets_the_options_that_it_names(stored):
    with_presets, without = (texts(draw("fig16", stored, presets=on)) for on in (True, False))
    assert "the same, artifact’s rules" in with_presets - without
    assert texts(draw("fig14", stored, presets=False)) == texts(draw("fig14", stored))


def test_live_runs_get_a_panel_of_their_own_once_they_are_stored(stored, tmp_path):
    copy = shutil.copytree(stored, tmp_path / "stored")
    names = ("fig14", "fig15a", "fig15b", "fig16")
    assert not [
        text for name in names for text in texts(draw(name, copy, presets=False)) if "live" in text
    ]
    rows = detail_rows("live_fig14", source="live", hardware="cpu_live", gpus=2)
    write_experiment(copy, "live_fig14", rows, details(rows))
    for name in names:
        assert "live, m" in texts(draw(name, copy, presets=False))


def test_distributions_show_what_the_claims_judge(stored):
    switches = texts(draw("fig15a", stored))
    assert {"7B: 50 % prefetched", "all: 50 % under 50 ms"} <= switches
    assert {"10 % of\n2.5 GiB"} <= texts(draw("fig16", stored))
    assert {"loose", "normal", "strict"} <= texts(draw("fig17_left", stored))
    assert "600 ms  ÷ 15.3" in texts(draw("fig07", stored))


def test_a_new_system_is_drawn_under_its_own_name(tmp_path):
    table = sweep_table("fig11a", {"aegaeon": 70, "newcomer": 50})
    table.to_parquet(tmp_path / "fig11a.parquet")
    assert "newcomer" in texts(draw("fig11a", tmp_path))


def test_a_variant_is_a_dashed_curve_and_a_part_of_a_sweep_says_what_is_missing(tmp_path):
    own = sweep_table("fig11a", {"aegaeon": 70})
    own = own[own["num_models"] == 64]
    said = "system.decode=6 system.prefill=10"
    variant = own.assign(overrides=said, point="v", config_hash="v" + own["config_hash"])
    pd.concat([own, variant]).to_parquet(tmp_path / "fig11a.parquet")
    figure = draw("fig11a", tmp_path)
    shown = texts(figure)
    assert {"Aegaeon", "Aegaeon (a)", "Number of models"} <= shown
    (note,) = (" ".join(text.split()) for text in shown if "(a) with" in text)
    assert f"(a) with {said}" in note
    assert "aegaeon without 16, 20, 24 and 13 more" in note
    variant.assign(costs="roofline").to_parquet(tmp_path / "fig11a.parquet")
    assert any("costs: roofline" in text for text in texts(draw("fig11a", tmp_path)))


def test_a_figure_that_cannot_be_drawn_stops_only_itself(tmp_path, monkeypatch, aegaeon):
    chosen = {name: REGISTRY[name] for name in ("overview", "fig11a", "fig13b", "fig13c", "fig14")}
    monkeypatch.setattr("figures.render.REGISTRY", chosen)
    variant = sweep_table("fig11a", {"aegaeon": 70}).assign(overrides="system.decode=6")
    variant.to_parquet(tmp_path / "fig11a.parquet")
    (tmp_path / "fig13c.parquet").write_bytes(b"no table")
    done = aegaeon("figures", "--stored", str(tmp_path))
    assert (done.exit_code, done.stderr) == (0, "")
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"fig11a"}
    first, *left = done.stdout.splitlines()
    assert first.startswith("2 files")
    reasons = {"fig13b: there is no", "fig14: there is no", "overview: stored table fig11a: all"}
    reasons.add("fig13c: ")
    assert len(left) == len(reasons)
    assert all(any(line.startswith(f"left out {r}") for line in left) for r in reasons)

    done = aegaeon("figures", "overview", "fig11a", "--stored", str(tmp_path))
    assert (done.exit_code, done.stdout[:7]) == (2, "2 files")
    assert done.stderr.startswith("left out overview: ")


def test_a_table_without_a_figure_is_no_error_unless_its_name_is_given(tmp_path, aegaeon):
    sweep_table("fig11a", {"aegaeon": 70}).to_parquet(tmp_path / "lab_sweep.parquet")
    done = aegaeon("figures", "--stored", str(tmp_path))
    assert (done.exit_code, done.stdout[:7]) == (0, "0 files")
    done = aegaeon("figures", "lab_sweep", "--stored", str(tmp_path))
    assert done.exit_code == 2
    assert "lab_sweep: no figure draws this table" in done.stderr
    (tmp_path / "lab_sweep.parquet").unlink()
    done = aegaeon("figures", "--stored", str(tmp_path))
    assert done.exit_code == 2
    assert "--stored: no table in" in done.stderr


def test_the_experiments_that_an_export_offers_figures_for_are_those_with_figures(tmp_path):
    needed = set()
    for name in REGISTRY:
        with pytest.raises(NotStoredError) as refused:
            draw(name, tmp_path)
        needed.add(Path(str(refused.value).partition(": ")[0]).stem)
    assert needed == DRAWN


def test_live_comparison_names_the_machine_and_draws_predictions_if_there_are_any(stored, tmp_path):
    shown = texts(draw("live_compare", stored))
    assert {"Aegaeon", "ServerlessLLM", "Sleep mode, slices"} <= shown
    assert any("Live · 2 instances of vLLM on m" in text and "Hollow" in text for text in shown)
    (tmp_path / "live_compare.parquet").write_bytes((stored / "live_compare.parquet").read_bytes())
    figure = draw("live_compare", tmp_path)
    assert not any("Hollow" in text for text in texts(figure))


@pytest.mark.parametrize(
    ("at", "axis", "label"),
    [
        (None, "num_models", "<16"),
        (Crossing(69.8), "num_models", "69"),
        (Crossing(80.0, open_ended=True), "num_models", "≥80"),
        (Crossing(0.349), "rate_rps", "0.35"),
    ],
)
def test_load_labels(at, axis, label):
    assert load_label(at, 16.0, axis) == label


def test_fig16_draws_the_smallest_run_whatever_its_hash() -> None:
    columns = {"num_models": [6, 3, 3], "rate_rps": [0.1, 0.5, 0.1], "seed": 0}
    for hashes in ("abc", "cba"):
        lines = pd.DataFrame(columns | {"config_hash": list(hashes)})
        assert fig16._smallest(lines)["config_hash"].tolist() == [hashes[2]]


def test_a_part_of_a_sweep_keeps_the_axis_of_the_whole(stored, tmp_path):
    whole = draw("fig11a", stored)
    table = pd.read_parquet(stored / "fig11a.parquet")
    table[table["num_models"].isin([48, 64])].to_parquet(tmp_path / "fig11a.parquet")
    assert draw("fig11a", tmp_path).axes[0].get_xlim() == whole.axes[0].get_xlim()
