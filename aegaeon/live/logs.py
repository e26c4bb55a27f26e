"""Redirection of a process's output to a log file."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def write_output_to(log: Path) -> None:
    """Append all output of this process, C++ libraries included, to the file `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
