"""A console for wide tables."""

from __future__ import annotations

from rich.console import Console

_PIPE_WIDTH = 120


def wide_console() -> Console:
    """Return a console on standard output; a pipe has no width, and gets at least 120 columns."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _PIPE_WIDTH)
    return console
