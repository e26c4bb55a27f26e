"""Render figures as PDF and PNG, byte for byte the same on every run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.style
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from aegaeon.errors import UserError
from aegaeon.files import atomic
from aegaeon.results.store import NotStoredError, stored_path
from figures import REGISTRY, draw
from figures.style import STYLE_FILE

# matplotlib leaves out a key with the value None, so no file has a date or a version.
METADATA: dict[str, dict[str, None]] = {
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "png": {"Software": None},
}


class Drawn(NamedTuple):
    """The written files, and the reason of each figure that was left out, by name."""

    paths: list[Path]
    left: dict[str, UserError]

    @property
    def reasons(self) -> list[str]:
        """A sentence per missing table with its figures, and one per figure left out otherwise."""
        absent: dict[str, list[str]] = {}
        for name, error in self.left.items():
            if isinstance(error, NotStoredError):
                absent.setdefault(str(error).partition(": ")[0], []).append(name)
        lines = [f"{', '.join(names)}: there is no {path}" for path, names in absent.items()]
        other = {k: e for k, e in self.left.items() if not isinstance(e, NotStoredError)}
        return [*lines, *(f"{name}: {error}" for name, error in other.items())]


def render(
    names: Sequence[str], stored: Path, out: Path, *, presets: bool = True, progress: bool = True
) -> Drawn:
    """Draw `names`, or all figures without names, from `stored` into `out`.

    A figure whose tables are missing or cannot be used is left out, and the others are drawn.
    Raises `UserError` for an unknown name before the first figure is drawn.
    """
    chosen = list(dict.fromkeys(names)) or list(REGISTRY)
    if unknown := [name for name in chosen if name not in REGISTRY]:
        raise UserError(_unknown(unknown, stored))
    drawn = Drawn([], {})
    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)
    for name in track(chosen, "Drawing", console=console, disable=hidden, transient=True):
        # The default style comes first, so that a user's matplotlibrc has no effect.
        with matplotlib.style.context(["default", STYLE_FILE]):
            try:
                figure = draw(name, stored, presets=presets)
            except UserError as error:
                drawn.left[name] = error
                continue
            drawn.paths.extend(_save(figure, out / f"{name}.{kind}", kind) for kind in METADATA)
    return drawn


def _unknown(names: Sequence[str], stored: Path) -> str:
    tables = [name for name in names if stored_path(name, stored).exists()]
    if tables:
        path = stored_path(tables[0], stored)
        return f"{tables[0]}: no figure draws this table; plot the rows of {path} by pandas"
    return f"unknown figure {', '.join(names)}; known: {', '.join(REGISTRY)}"


def _save(figure: Figure, path: Path, kind: str) -> Path:
    with atomic(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=METADATA[kind])
    return path
