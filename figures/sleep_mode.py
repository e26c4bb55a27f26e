"""Whole-model switching that keeps no KV, against Aegaeon and ServerlessLLM, as in Fig. 11."""

from __future__ import annotations

from functools import partial

from figures.attainment import Panel, render
from figures.canvas import Grid

PANELS = (
    Panel("fig11a_sleep_mode", "(a) 0.1 req/s per model"),
    Panel("fig11b_sleep_mode", "(b) 0.5 req/s per model"),
)
FIGURES = {"sleep_mode": partial(render, PANELS, 2, Grid(width=2.7, right=1.36))}
