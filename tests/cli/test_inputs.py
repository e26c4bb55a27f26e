"""`aegaeon profile` and `workload`: profiles and length tables from the command line."""

import pandas as pd
import pytest

from aegaeon.experiment.compose import composed
from aegaeon.experiment.plan import arrivals_of, market_models
from profiles.artifact_table import COLUMNS
from tests.support.workload_rows import rows
from workloads.lengths import LengthTable

HEADER = "Request Time,Model Name,Input Length,Output Length\n"


def test_lengths_are_fitted_to_traces(tmp_path, aegaeon):
    trace, output = tmp_path / "t.csv", tmp_path / "table.json"
    trace.write_text(HEADER + "00:00:01.000,m_0,10,20\n00:00:02.000,m_0,30,40\n")
    done = aegaeon("workload", "lengths", str(trace), "-o", str(output))
    assert done.exit_code == 0
    assert "2 draws, mean input 20.0, mean output 30.0" in done.stdout
    table = LengthTable.load(output)
    assert (table.n, table.input_mean, table.output_mean) == (2, 20.0, 30.0)
    absent = aegaeon("workload", "lengths", str(tmp_path / "absent.csv"), "-o", str(output))
    assert absent.exit_code == 2
    assert "absent.csv" in absent.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.csv", "table.json"]


def test_profiles_are_fitted_to_known_models_and_devices(tmp_path, aegaeon):
    table = tmp_path / "latencies.csv"
    pd.DataFrame(columns=list(COLUMNS)).to_csv(table, index=False)
    fit = ("profile", "fit", str(table), "--out", str(tmp_path))
    model = aegaeon(*fit, "--model", "qwen9", "--model", "yi-1.5-9b")
    assert (model.exit_code, model.stderr.split(";")[0]) == (2, "error: --model: unknown qwen9")
    device = aegaeon(*fit, "--device", "h9000")
    assert (device.exit_code, device.stderr.split(";")[0]) == (2, "error: --device: unknown h9000")
    empty = aegaeon(*fit)
    assert empty.exit_code == 2
    assert "no usable rows" in empty.stderr


def test_the_roofline_is_calibrated_in_place(monkeypatch, aegaeon):
    seen = []
    monkeypatch.setattr("profiles.roofline_fit.recalibrate", lambda: "table")
    monkeypatch.setattr("profiles.roofline_table.update_readme", lambda *given: seen.append(given))
    assert aegaeon("profile", "roofline").exit_code == 0
    ((readme, table),) = seen
    assert (readme.parts[-2:], table) == (("profiles", "README.md"), "table")


def test_overrides_reach_the_profiler(monkeypatch, aegaeon):
    seen = []
    monkeypatch.setattr("aegaeon.experiment.profile.profile", lambda *given: seen.append(given))
    done = aegaeon("profile", "measure", "--repeats", "1", "a=1", "~local", "--out", "x")
    assert done.exit_code == 0
    ((overrides, out, repeats),) = seen
    assert (overrides, str(out), repeats) == (("a=1", "~local"), "x", 1)


def test_generated_files_are_described_and_read_back_as_the_same_requests(aegaeon, tmp_path):
    folder = tmp_path / "synth"
    sizes = ("--count", "3,5", "--rate", "0.5", "--input-scale", "1,2", "--seed", "4")
    done = aegaeon("workload", "generate", *sizes, "--duration", "40", "-o", str(folder))
    assert done.exit_code == 0, done.stderr
    names = {f"synth-{m}-0.5-{s}-1.0.csv" for m in (3, 5) for s in (1.0, 2.0)}
    assert {path.name for path in folder.iterdir()} == names
    path = folder / "synth-5-0.5-2.0-1.0.csv"
    keys = ["models.count=5", "workload.duration_s=40"]
    drawn = composed([*keys, "workload.rate_rps=0.5", "workload.input_scale=2"])
    read = composed(["models.count=5", "workload=artifact", f"workload.path={path}"])
    expected, found = (rows(arrivals_of(c, 4, market_models(c))) for c in (drawn, read))
    assert [r[3:] for r in found] == [r[3:] for r in expected]
    assert [r.model for r in found] == [r.model for r in expected]
    assert [r.arrival for r in found] == pytest.approx([r.arrival for r in expected], abs=5.001e-4)
    told = aegaeon("workload", "describe", str(path), "--format", "artifact")
    assert f"requests:               {len(found)}" in told.stdout
    before = path.read_bytes()
    again = ("--count", "7,5", "--rate", "0.5", "--input-scale", "2", "--seed", "5")
    refused = aegaeon("workload", "generate", *again, "-o", str(folder))
    assert refused.exit_code == 2
    assert "synth-5-0.5-2.0-1.0.csv: exists, and may hold the requests of another" in refused.stderr
    assert path.read_bytes() == before
    assert {path.name for path in folder.iterdir()} == names
    refused = aegaeon("workload", "generate", "--count", "3,x", "--rate", "1", "-o", str(folder))
    assert refused.exit_code == 2
    assert "as 16,20" in refused.stderr
