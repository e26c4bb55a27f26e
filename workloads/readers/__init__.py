"""Readers of public traces; each returns a `Trace`."""

from workloads.readers.artifact import read_artifact, write_artifact_csv
from workloads.readers.conversations import estimate_tokens, read_conversations, read_vllm
from workloads.readers.tables import LAYOUTS, read_table
from workloads.readers.trace import Trace

__all__ = [
    "LAYOUTS",
    "Trace",
    "estimate_tokens",
    "read_artifact",
    "read_conversations",
    "read_table",
    "read_vllm",
    "write_artifact_csv",
]
