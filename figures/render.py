"""Render figures as PDF and PNG, byte for byte the same on every run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure
from rich.progress import track

from aegaeon.errors import UserError
from aegaeon.files import atomic
from aegaeon.results.store import NotStoredError
from figures import REGISTRY, draw
from figures.style import STYLE_FILE

# matplotlib leaves out a key with the value None, so no file has a date or a version.
METADATA: dict[str, dict[str, None]] = {
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "png": {"Software": None},
}


def render(
    names: Sequence[str], stored: Path, out: Path, *, presets: bool = True, progress: bool = True
) -> list[Path]:
    """Draw `names` from `stored` into `out`; return the written files.

    Without names, all figures are drawn whose tables are stored. Raises `UserError` for an unknown
    name before the first figure is drawn, and for a missing stored table of a named figure.
    """
    chosen = list(dict.fromkeys(names)) or list(REGISTRY)
    unknown = [name for name in chosen if name not in REGISTRY]
    if unknown:
        raise UserError(f"unknown figure {', '.join(unknown)}; known: {', '.join(REGISTRY)}")
    written: list[Path] = []
    for name in track(chosen, "Drawing", disable=not progress, transient=True):
        # The default style comes first, so that a user's matplotlibrc has no effect.
        with matplotlib.style.context(["default", STYLE_FILE]):
            try:
                figure = draw(name, stored, presets=presets)
            except NotStoredError:
                if names or (name == chosen[-1] and not written):
                    raise
                continue
            written += [_save(figure, out / f"{name}.{kind}", kind) for kind in METADATA]
    return written


def left_out(written: Sequence[Path]) -> list[str]:
    """Return the names of all figures that are not among the written files."""
    done = {path.stem for path in written}
    return [name for name in REGISTRY if name not in done]


def _save(figure: Figure, path: Path, kind: str) -> Path:
    with atomic(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=METADATA[kind])
    return path
