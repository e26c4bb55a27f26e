"""Commands that messages print, as they can be pasted for a folder of tables."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from aegaeon.paths import TABLES, is_reference

# The experiments whose table a figure needs first; `import figures` takes seconds.
DRAWN = frozenset(
    {
        *("fig04", "fig11a", "fig11b", "fig11c", "fig12a", "fig12b", "fig12c", "fig12d"),
        *("fig13a", "fig13b", "fig13c", "fig14", "fig17_left", "fig17_right"),
        *("fig11a_sleep_mode", "live_compare", "live_fidelity"),
    }
)


def stored_words(stored: Path) -> str:
    """Return the option that names a folder of tables, relative below the working directory."""
    below = stored.resolve().is_relative_to(Path.cwd())
    return f"--stored {shlex.quote(os.path.relpath(stored) if below else str(stored))}"


def remake(experiment: str, stored: Path) -> str:
    """Return what makes the table of `experiment`, and has the same command find the table.

    The rows of a user go to the user's tables, not to the reference.
    """
    run = f"`aegaeon run experiment={experiment}`, then `aegaeon results export {experiment}"
    if is_reference(stored):
        return f"{run}`, and read your tables by `{stored_words(TABLES)}`"
    return f"{run}`" if stored.resolve() == TABLES.resolve() else f"{run} {stored_words(stored)}`"
