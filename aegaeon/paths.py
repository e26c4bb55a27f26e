"""The project's folders, wherever a command is called from."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
RUNS = ROOT / "runs"
STORED = RUNS / "stored"
FIGURES = ROOT / "figures" / "out"
PROFILES = ROOT / "profiles"
