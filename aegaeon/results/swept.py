"""What an experiment's file sweeps over, read without composing a configuration."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import yaml

from aegaeon.paths import CONF

# The columns of a row that an experiment may have as its load.
AXES = {"models.count": "num_models", "workload.rate_rps": "rate_rps"}
_RANGE = re.compile(r"range\((\d+),(\d+)(?:,(\d+))?\)")


@cache
def swept(experiment: str) -> dict[str, list[str]]:
    """Return the values that a file of conf/experiment sweeps over, by key.

    The result is empty without such a file. A key is left out if its values are written in another
    way than as a list or as a range of integers.
    """
    path = CONF / "experiment" / f"{experiment}.yaml"
    if not path.is_file():
        return {}
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    params = content.get("hydra", {}).get("sweeper", {}).get("params", {})
    found = {key: _values(str(text).replace(" ", "")) for key, text in params.items()}
    return {key: values for key, values in found.items() if values}


def load_axis(experiment: str) -> str | None:
    """Return the column that is an experiment's load; None if its file does not say one."""
    axes = [column for key, column in AXES.items() if key in swept(experiment)]
    return axes[0] if len(axes) == 1 else None


def loads(experiment: str) -> list[float]:
    """Return the loads that an experiment's file lists, in order; empty if the file lists none."""
    keys = [key for key, column in AXES.items() if column == load_axis(experiment)]
    return sorted(float(value) for key in keys for value in swept(experiment)[key])


def _values(text: str) -> list[str]:
    if match := _RANGE.fullmatch(text):
        start, stop, step = (int(part or 1) for part in match.groups())
        return [str(value) for value in range(start, stop, step)]
    return [] if re.search(r"[()\[\]{}]", text) else text.split(",")
