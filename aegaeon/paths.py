"""The project's folders, independent of the working directory of a checkout's command.

A checkout keeps its results below its root. An installed package keeps them in the working
directory, because its root is the folder of the environment's packages.
"""

from __future__ import annotations

from pathlib import Path


def home_of(root: Path) -> Path:
    """Return the folder for results: `root` if it is a checkout, else the working directory."""
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


ROOT = Path(__file__).resolve().parents[1]
HOME = home_of(ROOT)
CONF = ROOT / "conf"
RUNS = HOME / "runs"
STORED = RUNS / "stored"
FIGURES = HOME / "figures" / "out"
PROFILES = ROOT / "profiles"
