"""From a plan to the row and tables that are stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aegaeon.experiment.backends.registry import runner
from aegaeon.experiment.planned import Plan, Result


def execute(
    planned: Plan, progress: Callable[[int], None] | None = None, folder: Path = Path()
) -> Result:
    """Carry a plan out; a live run writes its logs below `folder`."""
    return runner(planned.config.backend).execute(planned, progress, folder)
