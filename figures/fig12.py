"""Fig. 12: SLO attainment with prompts (ix2) or answers (ox2) of twice the length."""

from __future__ import annotations

from figures.attainment import Panel, figures

PANELS = (
    Panel("fig12a", "(a) 0.1 req/s, inputs ×2"),
    Panel("fig12b", "(b) 0.1 req/s, outputs ×2"),
    Panel("fig12c", "(c) 0.5 req/s, inputs ×2"),
    Panel("fig12d", "(d) 0.5 req/s, outputs ×2"),
)
FIGURES = figures("fig12", PANELS, columns=2, wide=2.8)
