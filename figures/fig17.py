"""Fig. 17: SLO attainment on small GPUs and with tensor-parallel models, for three targets."""

from __future__ import annotations

from figures.attainment import Panel, figures

PANELS = (
    Panel("fig17_left", "4 × A10, 6B and 7B: TBT target × ½, 1, 2", target="tbt_slo_s"),
    Panel("fig17_right", "72B on 2 × 4 H800: TTFT target × ½, 1, 2", target="ttft_slo_s"),
)
FIGURES = figures("fig17", PANELS, columns=2)
