"""Fitting a length table to the lengths in trace files of the public artifact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workloads.lengths.table import LengthTable
from workloads.readers.artifact import read_artifact

# Every percent, then every tenth of the last percent, then every tenth of its last tenth. The
# longest 1 % of prompts hold a large part of all tokens: interpolation would move the mean.
LEVELS = np.concatenate(
    [np.arange(0, 99) / 100, np.arange(990, 999) / 1000, np.arange(9990, 10001) / 10000]
)


def fit(paths: Sequence[Path]) -> LengthTable:
    """Return the quantiles of the pooled lengths of artifact CSVs; `UserError` on a bad file."""
    lengths = pool(paths)
    inputs, outputs = lengths[:, 0], lengths[:, 1]
    names = ", ".join(sorted(path.name for path in paths))
    return LengthTable(
        levels=LEVELS,
        inputs=np.quantile(inputs, LEVELS).round(1),
        outputs=np.quantile(outputs, LEVELS).round(1),
        n=len(lengths),
        input_mean=round(float(inputs.mean()), 2),
        output_mean=round(float(outputs.mean()), 2),
        source=f"lengths in the Aegaeon artifact's workload CSVs (Apache-2.0), pooled: {names}",
    )


def pool(paths: Sequence[Path]) -> NDArray[np.int64]:
    """Return the distinct draws of (input, output) in the files, shape (n, 2).

    The files share draws: smaller markets are subsets of larger ones. A pair therefore counts as
    often as in the one file that holds it most often, not once per file.
    """
    union: Counter[tuple[int, int]] = Counter()
    for path in paths:
        trace = read_artifact(path)
        union |= Counter(zip(trace.inputs.tolist(), trace.outputs.tolist(), strict=True))
    return np.array(sorted(union.elements()), dtype=np.int64).reshape(-1, 2)
