"""An MLflow run that has ended, as this project logs runs: the entry of a run or of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["sweep", "run"]
Status = Literal["FINISHED", "FAILED"]
MAX_TAG_LENGTH = 5000


class MetricValue(NamedTuple):
    """One value of a metric that has several values, at an integer step."""

    step: int
    value: float


Series = Mapping[str, Sequence[MetricValue]]


class Dataset(NamedTuple):
    """What a run read: the name, at most 36 characters of a digest, and the origin as JSON."""

    name: str
    digest: str
    source: str


def no_series() -> Series:
    """Return no metric."""
    return {}


@dataclass(frozen=True, slots=True)
class Entry:
    """One MLflow run that has ended.

    Attributes:
        key: never changes, so no run is logged twice.
        name: what people read.
        status: as MLflow calls it.
        start_ms: milliseconds since 1970.
        end_ms: milliseconds since 1970.
        params: settings as text.
        metrics: numbers.
        series: makes the metrics with steps; called only for an entry that is logged.
        tags: facts; `kind` is `run` or `sweep`.
        datasets: what the run read.
        files: artifacts that a store without `artifact_uri` receives, each with its folder there.
        texts: further artifacts, by name.
        point: configuration hash; of the entries of one point, a store shows the last one only.
        parent: key of the sweep's entry.
        artifact_uri: a folder that holds the artifacts already; None leaves the place to MLflow.
    """

    key: str
    name: str
    status: Status
    start_ms: int
    end_ms: int
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    series: Callable[[], Series] = no_series
    tags: Mapping[str, str] = field(default_factory=dict)
    datasets: Sequence[Dataset] = ()
    files: Sequence[tuple[Path, str]] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    point: str = ""
    parent: str | None = None
    artifact_uri: str | None = None


def tagged(kind: Kind, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags with `kind`; empty ones are left out, long ones are cut at their end."""
    return {"kind": kind} | {name: text[:MAX_TAG_LENGTH] for name, text in tags.items() if text}
