"""What entries hold: parameters without a loss, numbers, descriptions, saved views, no password."""

import json
import sys

from aegaeon.results.mlflow import values, view
from aegaeon.results.mlflow.from_records import of_records
from aegaeon.results.record import open_run
from aegaeon.results.secrets import masked


def entry(row, tmp_path, config, **changes):
    with open_run(tmp_path, "fig11a", config, sweep_id="s", command="aegaeon run") as record:
        record.finish(row(**changes))
    (sweep, run), problems = of_records([record.facts], tmp_path)
    assert problems == []
    return sweep, run


def test_more_than_a_hundred_long_parameters_are_all_there(row, tmp_path):
    config = {f"key@{i}": "x" * 900 for i in range(150)} | {"paths": {"root": "/home"}}
    config |= {"long": "y" * 7000}
    _, run = entry(row, tmp_path, config)
    assert len([name for name in run.params if name.startswith("key_")]) == 150
    assert run.params["num_models"] == "40"
    assert run.params["key_149"] == "x" * 900
    assert len(run.params["long"]) == values.MAX_PARAM_LENGTH
    assert run.params["long"].endswith("(whole in run.json)")
    assert not any("@" in name or "paths" in name for name in run.params)


def test_numbers_of_the_settings_are_metrics_too(row, tmp_path):
    _, run = entry(row, tmp_path, {"a": 1}, tbt_p99_s=None)
    assert (run.metrics["num_models"], run.metrics["rate_rps"]) == (40.0, 0.1)
    assert "tbt_p99_s" not in run.metrics


def test_tags_are_those_that_mlflow_shows(row, tmp_path):
    config = {"workload": {"name": "market", "rate_rps": 0.1}}
    sweep, run = entry(row, tmp_path, config, slo_scale=0.5)
    assert run.name == "aegaeon, 40 models, 0.1 req/s, SLO ×0.5, seed 0"
    assert run.tags["mlflow.source.git.commit"] == run.tags["git_sha"]
    assert run.tags["mlflow.source.name"] == "aegaeon run"
    assert "tokens on time (section 2.1): 0.93" in run.tags["mlflow.note.content"]
    assert run.datasets[0].name == "market"
    assert sweep.texts["rows.csv"].startswith("experiment,figure,system")


def test_the_view_shows_what_varies(row, tmp_path):
    runs = [entry(row, tmp_path, {"a": n}, num_models=n, slo_scale=n)[1] for n in (16, 48)]
    tags = view.tags("fig11a", runs)
    table, charts = (json.loads(tags[view.TAG + key]) for key in (view.TABLE, view.CHARTS))
    assert table["selectedColumns"][:4] == [
        *("params.`system`", "metrics.`num_models`", "metrics.`slo_scale`"),
        "metrics.`slo_attainment`",
    ]
    assert charts == table
    drawn = [chart["xaxis"]["key"] for chart in table["compareRunCharts"] if "xaxis" in chart]
    assert drawn == ["num_models", "slo_scale"]
    assert tags["mlflow.note.content"].startswith("Figure 11a: SLO attainment against models")
    # MLflow before 3.5 takes no longer tags of experiments.
    assert max(map(len, tags.values())) <= 5000


def test_no_record_has_a_password(row, tmp_path, monkeypatch):
    config = {"tracking": {"uri": "http://me:hunter2@head:5000"}, "x": {"api_key": "hunter2"}}
    words = ["tracking.uri=http://me:hunter2@head:5000", "+x.password=hunter2 2", "a=1"]
    monkeypatch.setattr(sys, "argv", ["aegaeon run", *words])
    with open_run(tmp_path, "e", config) as record:
        record.finish(row(experiment="e"))
    text = (record.directory / "run.json").read_text()
    assert "hunter2" not in text
    facts = json.loads(text)
    assert facts["config"]["tracking"]["uri"] == "http://me:***@head:5000"
    assert facts["command"].endswith("'+x.password=***' a=1")
    assert masked("x.password=hunter2 a=1") == "x.password=*** a=1"
    assert masked("max_tokens=5 http://head:5000/a@b") == "max_tokens=5 http://head:5000/a@b"
