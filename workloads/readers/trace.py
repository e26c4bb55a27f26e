"""What every reader returns: a trace as columns, sorted by arrival."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aegaeon.errors import UserError


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests of a trace as columns of shape (n,), sorted by arrival (ties in file order).

    Attributes:
        arrivals: seconds from the trace's start.
        inputs: prompt lengths in tokens, at least 1.
        outputs: answer lengths in tokens, at least 1.
        labels: the trace's own model names; None when it has none.
        skipped: rows left out as the format's rules say (failed or empty requests).
    """

    arrivals: NDArray[np.float64]
    inputs: NDArray[np.int64]
    outputs: NDArray[np.int64]
    labels: NDArray[np.str_] | None = None
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.arrivals)


def make_trace(
    path: Path,
    arrivals: NDArray[np.float64],
    inputs: NDArray[np.int64],
    outputs: NDArray[np.int64],
    labels: NDArray[np.str_] | None = None,
    skipped: int = 0,
) -> Trace:
    """Return the columns sorted by arrival; `UserError` if there is no request left."""
    if not len(arrivals):
        raise UserError(f"{path}: has no usable request ({skipped} rows skipped); check the file")
    order = np.argsort(arrivals, kind="stable")
    kept = None if labels is None else labels[order]
    return Trace(arrivals[order], inputs[order], outputs[order], kept, skipped)
