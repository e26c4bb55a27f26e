"""The saved views of an experiment in MLflow's pages, a table and charts, and the links to them.

MLflow 3 keeps a shared view as JSON in a tag of the experiment. A link names the tag, and asks for
the pages about training: the default ones are about language-model traces, and show no run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aegaeon.results.mlflow import notes
from aegaeon.results.mlflow.entry import Entry
from aegaeon.results.mlflow.sweeps import BY_MODELS, SWEEP_TAG
from aegaeon.results.mlflow.values import OVER_TIME
from aegaeon.results.schema import ROWS

TABLE, CHARTS = "aegaeon", "aegaeon-charts"
TAG = "mlflow.sharedViewState."
_MEASURES = (
    *("slo_attainment", "joint_attainment", "goodput_rps"),
    *("ttft_p99_s", "tbt_p99_s", "switches", "failed"),
)
_ATTAINMENT = "slo_attainment"
_FIRST = ("attributes.`Run Name`", "runDateAndNestInfo")


def tags(experiment: str, entries: Sequence[Entry]) -> dict[str, str]:
    """Return the tags of an experiment: its description, its kind and its saved views."""
    table = _table(_varied(entries))
    series = sorted({name for entry in entries for name in _series_names(entry)})
    views = {TABLE: table, CHARTS: _sweeps(series) if series else table}
    return {
        "mlflow.note.content": notes.of_experiment(experiment),
        "mlflow.experimentKind": "custom_model_development",
        **{f"{TAG}{key}": json.dumps(v, separators=(",", ":")) for key, v in views.items()},
    }


def table_link(server: str, experiment_id: str) -> str:
    """Return the address of an experiment's table of runs."""
    return _link(server, experiment_id, TABLE)


def charts_link(server: str, experiment_id: str) -> str:
    """Return the address of an experiment's charts."""
    return f"{_link(server, experiment_id, CHARTS)}&compareRunsMode=CHART"


def _link(server: str, experiment_id: str, key: str) -> str:
    asked = f"workflowType=machine_learning&viewStateShareKey={key}"
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{asked}"


def _table(varied: Sequence[str]) -> dict[str, Any]:
    """Return the runs, without the sweeps' own rows, below the names of their sweeps."""
    columns = [
        f"params.`{name}`" if ROWS.by_name[name].type == "str" else f"metrics.`{name}`"
        for name in (*varied, *_MEASURES)
    ]
    return {
        "searchFilter": "tags.kind = 'run'",
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": SWEEP_TAG}],
        },
        "useGroupedValuesInCharts": False,
        "selectedColumns": columns,
        "columnOrder": [*_FIRST, *columns],
        "columnWidths": {_FIRST[0]: 420},
        "runsHiddenMode": "SHOW_ALL",
        **_charts(_of_runs(varied), "SLO attainment of runs", columns=2, cardHeight=420),
    }


def _sweeps(series: Sequence[str]) -> dict[str, Any]:
    """Return the curves of the sweeps, a line per system."""
    title = "SLO attainment against models"
    return {
        "searchFilter": "tags.kind = 'sweep'",
        "runsHiddenMode": "SHOW_ALL",
        "runListHidden": True,
        **_charts([_line("attainment_by_models", series)], title, columns=1, cardHeight=560),
    }


def _charts(charts: Sequence[Mapping[str, Any]], title: str, **size: int) -> dict[str, Any]:
    """Return the state of the page of charts: ours come first, MLflow's own are folded.

    `size` are the columns of our section, and the height of its charts in pixels.
    """
    folded = dict.fromkeys(("Model metrics", BY_MODELS), False)
    sections = [
        {"uuid": name, "name": name, "display": display}
        | {"isReordered": False, "deleted": False, "isGenerated": False}
        for name, display in {title: True, **folded}.items()
    ]
    sections[0] |= size
    return {
        "compareRunCharts": [{**chart, "metricSectionId": title} for chart in charts],
        "compareRunSections": sections,
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }


def _varied(entries: Sequence[Entry]) -> list[str]:
    """Return the settings that differ between runs; system and models lead in any case."""
    runs = [entry.params for entry in entries if entry.tags.get("kind") == "run"]
    lead = ["system", "num_models"]
    return lead + [
        name
        for name in ROWS.of_role("setting")
        if name not in lead and len({params.get(name) for params in runs} - {None}) > 1
    ]


def _series_names(entry: Entry) -> Sequence[str]:
    return [] if entry.tags.get("kind") != "sweep" else list(entry.series())


def _of_runs(varied: Sequence[str]) -> list[dict[str, Any]]:
    """Return a chart of the attainment by each number that varies, and one over time."""
    numbers = [n for n in varied if ROWS.by_name[n].type != "str" and n != "seed"]
    return [*(_scatter(name) for name in numbers), _line("over_time", [OVER_TIME])]


def _scatter(name: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": name, "type": "METRIC"}, "yaxis": {"key": _ATTAINMENT}}
    axes["yaxis"]["type"] = "METRIC"
    return {**_chart("SCATTER", name), **axes, "runsCountToCompare": 1000}


def _line(name: str, metrics: Sequence[str]) -> dict[str, Any]:
    return {
        **_chart("LINE", name),
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "xAxisKey": "step",
        "useGlobalXaxisKey": False,
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": False,
    }


def _chart(kind: str, name: str) -> dict[str, Any]:
    return {"type": kind, "uuid": f"aegaeon-{name}", "isGenerated": False, "deleted": False}
