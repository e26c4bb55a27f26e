"""Fig. 13: SLO attainment at 0.1 req/s per model under stricter objectives."""

from __future__ import annotations

from figures.attainment import Panel, figures

PANELS = (
    Panel("fig13a", "(a) SLO ×0.5: 5 s, 50 ms"),
    Panel("fig13b", "(b) SLO ×0.3: 3 s, 30 ms"),
    Panel("fig13c", "(c) SLO ×0.2: 2 s, 20 ms"),
)
FIGURES = figures("fig13", PANELS, columns=3)
