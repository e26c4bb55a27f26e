"""Descriptions that MLflow shows with experiments, sweeps and runs, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aegaeon.paths import CONF
from aegaeon.results.mlflow.entry import MAX_TAG_LENGTH
from aegaeon.results.schema import ROWS

_SHOWN = ("slo_attainment", "joint_attainment", "goodput_rps", "ttft_p99_s", "tbt_p99_s")


def of_experiment(name: str) -> str:
    """Return what an experiment is, in the words of its file, and how to read its page."""
    return (
        f"{_first_comment(name)}\n\n"
        "`aegaeon mlflow` prints a link to the right view: a table of runs with the settings that "
        "vary and the measures, and charts (the symbol above the table). By hand: choose "
        "*Model training* at the upper left, then *Runs*. A sweep is a row; its runs unfold.\n\n"
        "`slo_attainment` is the share of tokens on time. The record of a run is its directory "
        "(tag `run_dir`); this page is an index, and may be deleted: `aegaeon results sync` and "
        "`aegaeon results import` fill it again."
    ).strip()


def of_row(row: Mapping[str, Any]) -> str:
    """Return a run's system, load and main measures, with their units."""
    lines = [
        f"{row['system']}: {row['num_models']} models at {row['rate_rps']:g} requests/s each, "
        f"{row['gpus']} GPUs ({row['hardware']}), {row['source']}, seed {row['seed']}.",
        "",
    ]
    for name in _SHOWN:
        if (value := row.get(name)) is not None and value == value:
            column = ROWS.by_name[name]
            lines.append(f"* {column.meaning}: {value:.4g} {column.unit}")
    return "\n".join(lines)


def of_failure(error: Mapping[str, str] | None) -> str:
    """Return what ended a run; None is a process that could not say."""
    if error is None:
        return "The process ended without closing this run (killed, or the machine went down)."
    # The end of a traceback is the useful part, but MLflow cuts a long tag at the end.
    trace = error["traceback"][-(MAX_TAG_LENGTH - 500) :]
    return f"**{error['type']}**: {error['message'][:300]}\n\n```\n{trace}\n```"


def _first_comment(name: str) -> str:
    """Return the first comment of an experiment's file; the name if there is none."""
    path = CONF / "experiment" / f"{name}.yaml"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    said = [line.removeprefix("# ") for line in lines if line.startswith("# ") and "@" not in line]
    return said[0] if said else f"Runs named {name}."
