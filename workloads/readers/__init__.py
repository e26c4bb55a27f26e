"""Readers of public traces, one a format; each returns a `Trace`."""

from workloads.readers.artifact import read_artifact, write_artifact_csv
from workloads.readers.azure import read_azure
from workloads.readers.burstgpt import read_burstgpt
from workloads.readers.mooncake import read_mooncake
from workloads.readers.sharegpt import estimate_tokens, read_sharegpt
from workloads.readers.trace import Trace

__all__ = [
    "Trace",
    "estimate_tokens",
    "read_artifact",
    "read_azure",
    "read_burstgpt",
    "read_mooncake",
    "read_sharegpt",
    "write_artifact_csv",
]
