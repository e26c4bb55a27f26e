"""The parameters and metrics of a run, from its configuration, row and table of requests."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aegaeon.results.mlflow.entry import MetricValue, Series
from aegaeon.results.schema import ROWS

# MLflow cuts a longer value without a mark.
MAX_PARAM_LENGTH = 6000
MAX_KEY_LENGTH = 250
OVER_TIME = "slo_attainment_over_time"
_CUT = " … (whole in run.json)"
_REFUSED = re.compile(r"[^\w\-./: ]", re.ASCII)
_MEASURES = (*ROWS.of_role("measure"), "wall_s")
_POINTS = 60


def settings(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of a row as parameters."""
    return {name: str(row[name]) for name in ROWS.of_role("setting") if name in row}


def metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a row: measures, and settings, as charts need numbers on both axes.

    An empty value (None, NaN or infinite) is left out.
    """
    values = {name: row.get(name) for name in (*_MEASURES, *ROWS.of_role("setting"))}
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def params(config: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, str]:
    """Return `a.b.c` -> text for every leaf of a configuration, and the settings of its row."""
    return {
        key: text if len(text) <= MAX_PARAM_LENGTH else text[: MAX_PARAM_LENGTH - len(_CUT)] + _CUT
        for key, text in {**_flatten(config), **settings(row)}.items()
    }


def over_time(requests: Path, duration_s: float) -> Series:
    """Return the attainment of the requests that arrived in each window; a step is a second.

    `requests` is a run's table of requests. An absent or damaged table gives no series.
    """
    try:
        table = pq.read_table(requests, columns=["arrival_s", "output_tokens", "tokens_on_time"])
    except (OSError, pa.ArrowException):
        return {}
    arrival, due, met = (column.to_numpy() for column in table.columns)
    width = max(1, math.ceil(duration_s / _POINTS))
    window = (arrival // width).astype(np.int64)
    tokens = np.bincount(window, weights=due)
    on_time = np.bincount(window, weights=met)
    steps = np.flatnonzero(tokens).tolist()
    return {OVER_TIME: [MetricValue(n * width, float(on_time[n] / tokens[n])) for n in steps]}


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a text for every leaf; a list is one leaf, written as JSON."""
    flat: dict[str, str] = {}
    for name, value in config.items():
        key = _REFUSED.sub("_", f"{prefix}{name}")[:MAX_KEY_LENGTH]
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{key}."))
        else:
            flat[key] = json.dumps(value) if isinstance(value, list) else str(value)
    return flat
