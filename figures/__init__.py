"""One module per figure, drawn from stored tables and nothing else; `REGISTRY` names them all."""

from __future__ import annotations

from collections.abc import Mapping

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
from figures.attainment import Render

REGISTRY: Mapping[str, Render] = {
    **overview.FIGURES,
    **fig04.FIGURES,
    **fig07.FIGURES,
    **fig11.FIGURES,
    **fig12.FIGURES,
    **fig13.FIGURES,
    **fig14.FIGURES,
    **fig15.FIGURES,
    **fig16.FIGURES,
    **fig17.FIGURES,
    **sleep_mode.FIGURES,
    **live_compare.FIGURES,
    **fidelity.FIGURES,
}
