"""The terminal as wide tables need it."""

from __future__ import annotations

from rich.console import Console

_PIPE_WIDTH = 120


def wide_console() -> Console:
    """Return standard output; a pipe, which has no width, gets at least 120 columns."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _PIPE_WIDTH)
    return console
