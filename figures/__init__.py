"""One module per figure, drawn from stored tables and nothing else; `REGISTRY` names them all."""

from __future__ import annotations

from collections.abc import Mapping

from figures import fig04, fig11, fig12, fig13, overview
from figures.attainment import Render

REGISTRY: Mapping[str, Render] = {
    **overview.FIGURES,
    **fig04.FIGURES,
    **fig11.FIGURES,
    **fig12.FIGURES,
    **fig13.FIGURES,
}
