"""What every reader returns: a trace as columns, sorted by arrival."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aegaeon.errors import UserError


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests of a trace as columns of shape (n,), sorted by arrival (ties in file order).

    Attributes:
        arrivals: seconds from the trace's start; all NaN for a file without times.
        inputs: prompt lengths in tokens, at least 1.
        outputs: answer lengths in tokens, at least 1.
        labels: the trace's own model names, a categorical; None when it has none.
        skipped: rows of the file left out: failed or empty requests.
        first: requests of the file that lie before the first one here.
        total: requests of the whole file; -1 for as many as there are here.
        end_s: the last arrival of the whole file; NaN for the last one here.
    """

    arrivals: NDArray[np.float64]
    inputs: NDArray[np.int64]
    outputs: NDArray[np.int64]
    labels: pd.Categorical | None = None
    skipped: int = 0
    first: int = 0
    total: int = -1
    end_s: float = float("nan")

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def timed(self) -> bool:
        """Whether the file has arrival times."""
        return not np.isnan(self.arrivals[:1]).any()


def make_trace(
    path: Path,
    arrivals: NDArray[np.float64] | None,
    inputs: NDArray[np.int64],
    outputs: NDArray[np.int64],
    labels: pd.Categorical | None = None,
    skipped: int = 0,
) -> Trace:
    """Return the columns sorted by arrival; `UserError` if there is no request left."""
    if not len(inputs):
        raise UserError(f"{path}: has no usable request ({skipped} rows skipped); check the file")
    if arrivals is None:
        return Trace(np.full(len(inputs), np.nan), inputs, outputs, labels, skipped)
    if np.all(arrivals[1:] >= arrivals[:-1]):
        return Trace(arrivals, inputs, outputs, labels, skipped)
    order = np.argsort(arrivals, kind="stable")
    kept = None if labels is None else labels[order]
    return Trace(arrivals[order], inputs[order], outputs[order], kept, skipped)
