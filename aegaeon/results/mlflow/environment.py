"""The environment of MLflow in our processes and in the servers that we start."""

from __future__ import annotations

import os

# No telemetry, no job server next to the UI, and short time-outs for a server that is down.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def set_environment() -> None:
    """Set MLflow's environment; a variable that the user has set stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
