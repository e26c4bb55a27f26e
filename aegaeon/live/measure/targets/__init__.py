"""The live backend's targets, measured: `python -m aegaeon.live.measure.targets`.

All are ratios or small absolute times within one process, taken in interleaved rounds, so the same
command says on any machine whether they are reached.
"""

from pathlib import Path

STORED = Path("runs/stored/bench/live.json")
"""Where numbers are kept for `aegaeon claims`."""
