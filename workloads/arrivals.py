"""From columns of numbers to the arrivals that every backend takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aegaeon.core import Arrival, ModelSpec, Request
from workloads.lengths import clip_lengths


class Arrivals(list[Arrival]):
    """Arrivals in order of time, and what was changed on the way to them.

    Attributes:
        clipped: requests whose prompt or answer was cut to the model's max_len.
        skipped: rows of the trace that were left out.
    """

    clipped: int = 0
    skipped: int = 0


def build_arrivals(
    models: Sequence[ModelSpec],
    index: NDArray[np.int64],
    arrivals: NDArray[np.float64],
    inputs: NDArray[np.int64],
    outputs: NDArray[np.int64],
    skipped: int = 0,
) -> Arrivals:
    """Return arrivals in order of time (ties keep their order), with request ids 0..n-1.

    All columns have shape (n,): `index` into `models`, arrivals in seconds, lengths in tokens,
    which are clipped at each model's max_len.
    """
    order = np.argsort(arrivals, kind="stable")
    index = index[order]
    max_len = np.array([model.max_len for model in models], dtype=np.int64)[index]
    clipped = int((inputs[order] + outputs[order] > max_len).sum())
    inputs, outputs = clip_lengths(inputs[order], outputs[order], max_len)
    names = [model.name for model in models]
    rows = zip(
        index.tolist(), arrivals[order].tolist(), inputs.tolist(), outputs.tolist(), strict=True
    )
    found = Arrivals(
        Arrival(Request(n, names[i], t, read), write) for n, (i, t, read, write) in enumerate(rows)
    )
    found.clipped, found.skipped = clipped, skipped
    return found
