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
from aegaeon.results.mlflow.sweeps import SWEEP_TAG
from aegaeon.results.mlflow.values import OVER_TIME
from aegaeon.results.schema import ROWS

TABLE, CHARTS = "aegaeon", "aegaeon-charts"
TAG = "mlflow.sharedViewState."
_SECTION = "aegaeon"
_MEASURES = (
    *("slo_attainment", "joint_attainment", "goodput_rps"),
    *("ttft_p99_s", "tbt_p99_s", "switches", "failed"),
)
_ATTAINMENT = "slo_attainment"
_FIRST = ("attributes.`Run Name`", "runDateAndNestInfo")


def tags(experiment: str, entries: Sequence[Entry]) -> dict[str, str]:
    """Return the tags of an experiment: its description, its kind and its saved views."""
    views = {TABLE: _table(_varied(entries)), CHARTS: _all_charts(entries)}
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
        "columnWidths": {_FIRST[0]: 330},
        "runsHiddenMode": "SHOW_ALL",
    }


def _all_charts(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return charts of runs and of sweeps; an order by a metric puts both on one level."""
    numbers = [name for name in _varied(entries) if ROWS.by_name[name].type != "str"]
    series = sorted({name for entry in entries for name in _series_names(entry)})
    return {
        "orderByKey": f"metrics.`{_ATTAINMENT}`",
        "orderByAsc": False,
        "runsHiddenMode": "SHOW_ALL",
        "runListHidden": True,
        "compareRunCharts": _charts(numbers, series),
        "compareRunSections": [_section()],
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


def _charts(numbers: Sequence[str], series: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return one chart of the attainment by models, one by each varied number, one over time."""
    lines = {
        "attainment against models, mean of the seeds (rows of sweeps)": series,
        "attainment of the requests that arrived at a time (step: s)": [OVER_TIME],
    }
    charts: list[dict[str, Any]] = [
        _chart("LINE", title, metricKey=names[0], selectedMetricKeys=list(names))
        for title, names in lines.items()
        if names
    ]
    charts[-1:-1] = [
        _chart(
            "SCATTER",
            f"attainment against {name}, each run",
            xaxis={"key": name, "type": "METRIC"},
            yaxis={"key": _ATTAINMENT, "type": "METRIC"},
        )
        for name in numbers
        if name != "seed"
    ]
    return charts


def _chart(kind: str, title: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "type": kind,
        "uuid": title,
        "metricSectionId": _SECTION,
        "displayName": title,
        "isGenerated": False,
        "deleted": False,
        "runsCountToCompare": 1000,
        **more,
        **({"xAxisKey": "step", "useGlobalXaxisKey": False} if kind == "LINE" else {}),
    }


def _section() -> dict[str, Any]:
    shown = {"display": True, "isReordered": False, "deleted": False, "isGenerated": False}
    return {"uuid": _SECTION, "name": "SLO attainment", **shown}
