"""Where the output of an engine's process goes."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def write_output_to(log: Path) -> None:
    """Append all that this process prints, C++ libraries included, to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
