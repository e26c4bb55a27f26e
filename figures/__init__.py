"""One module per figure. Figures read stored tables only; `REGISTRY` names all figures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from figures import (
    fidelity,
    fig04,
    fig07,
    fig11,
    fig12,
    fig13,
    fig14,
    fig15,
    fig16,
    fig17,
    live_compare,
    overview,
    sleep_mode,
)

MODULES = (
    *(overview, fig04, fig07, fig11, fig12, fig13, fig14, fig15, fig16, fig17),
    *(sleep_mode, live_compare, fidelity),
)
REGISTRY: Mapping[str, Callable[..., Figure]] = {
    name: render for module in MODULES for name, render in module.FIGURES.items()
}


def draw(name: str, stored: Path, *, presets: bool = True) -> Figure:
    """Draw one figure from the folder of stored tables.

    `presets` draws variants of systems too. A figure's function receives only the options among
    its parameters. Raises KeyError for an unknown name, and `UserError` for a missing stored table.
    """
    render, options = REGISTRY[name], {"presets": presets}
    taken = inspect.signature(render).parameters
    return render(stored, **{key: value for key, value in options.items() if key in taken})
