"""`aegaeon profile` and `workload`: profiles and length tables from the command line."""

import pandas as pd

from profiles.artifact_table import COLUMNS
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
