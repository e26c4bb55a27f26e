"""`aegaeon workload generate`: arrivals of a market as workload files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from aegaeon.errors import UserError
from aegaeon.experiment.compose import composed
from aegaeon.experiment.config import Market, validate
from aegaeon.experiment.plan import arrivals_of, market_models
from workloads import Arrivals, write_artifact_csv


class Traffic(NamedTuple):
    """What differs from file to file: models, requests/s of each, factors of the lengths."""

    models: int
    rate_rps: float
    input_scale: float
    output_scale: float

    @property
    def name(self) -> str:
        """The file's name, as the artifact has it."""
        scales = f"{float(self.input_scale)}-{float(self.output_scale)}"
        return f"synth-{self.models}-{self.rate_rps:g}-{scales}.csv"


def generate(
    overrides: Sequence[str], points: Sequence[Traffic], duration_s: float, seed: int, folder: Path
) -> Iterator[tuple[Path, Arrivals]]:
    """Write a file for each point as an artifact CSV; yield its path and its arrivals.

    Times are rounded to milliseconds in the files. Raises `UserError` for a configuration that
    cannot be drawn, or has no arrival, and for a file that exists: a name tells neither the seed
    nor the overrides.
    """
    if old := [folder / point.name for point in points if (folder / point.name).exists()]:
        raise UserError(
            f"{old[0]}: exists, and may hold the requests of another seed; give -o another folder, "
            "or delete the file"
        )
    base = composed(list(overrides))
    workload = base.workload
    if not isinstance(workload, Market):
        raise UserError("workload: expected a generated one, as market, bursty or skewed")
    for point in points:
        chosen = replace(
            workload,
            duration_s=duration_s,
            rate_rps=point.rate_rps,
            input_scale=point.input_scale,
            output_scale=point.output_scale,
        )
        models = replace(base.models, count=point.models)
        config = replace(base, models=models, workload=chosen)
        validate(config)
        arrivals = arrivals_of(config, seed, market_models(config))
        path = folder / point.name
        if not arrivals:
            raise UserError(f"{path}: no request arrives; raise --duration or --rate")
        write_artifact_csv(arrivals, path)
        yield path, arrivals
