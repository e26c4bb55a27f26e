"""The live engine's numbers to reach, measured here: `python -m aegaeon.live.measure.targets`.

All are ratios or small absolute times within one process, taken in interleaved rounds, so that the
same command says whether they are reached on any machine.
"""

from pathlib import Path

STORED = Path("runs/stored/bench/live.json")
"""Where numbers are kept for `aegaeon claims`."""
