"""Fig. 11: SLO attainment over the number of models (a, b) and over the arrival rate (c)."""

from __future__ import annotations

from figures.attainment import Panel, figures

PANELS = (
    Panel("fig11a", "(a) 0.1 req/s per model"),
    Panel("fig11b", "(b) 0.5 req/s per model"),
    Panel("fig11c", "(c) 40 models"),
)
FIGURES = figures("fig11", PANELS, columns=3)
