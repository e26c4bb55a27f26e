"""Workloads: what arrives when, for which model, and how long it is.

Two sources give the same thing, a list of `aegaeon.core.Arrival` in order of time:

* `market` draws it: Poisson or bursty arrivals per model, ShareGPT lengths, a uniform or skewed
  market (paper section 7.1 and Figure 1a), nested so that a smaller market is part of a larger;
* `replay` takes it from a public trace, in one of `FORMATS`.

`expand_market` makes the models, `write_artifact_csv` hands a workload to the artifact's own
simulator. Everything is a function of its arguments and a seed; `UserError` tells a user what to
correct. See README.md for the formats, their licences and their oddities.
"""

from workloads.arrivals import Arrivals
from workloads.describe import describe_trace
from workloads.lengths import LengthTable, clip_lengths, sharegpt_lengths
from workloads.market import expand_market, market, model_rates
from workloads.popularity import SKEWS, popularity
from workloads.readers import Trace, write_artifact_csv
from workloads.readers.times import UNITS
from workloads.traces import FORMATS, Reading, read_trace, replay

__all__ = [
    "FORMATS",
    "SKEWS",
    "UNITS",
    "Arrivals",
    "LengthTable",
    "Reading",
    "Trace",
    "clip_lengths",
    "describe_trace",
    "expand_market",
    "market",
    "model_rates",
    "popularity",
    "read_trace",
    "replay",
    "sharegpt_lengths",
    "write_artifact_csv",
]
