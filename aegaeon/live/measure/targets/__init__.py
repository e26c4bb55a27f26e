"""The live engine's targets, measured on this machine: `aegaeon bench live`.

All are ratios or small absolute times within one process, taken in interleaved rounds, so that the
same command says whether they are reached on any machine.
"""

from aegaeon import paths

STORED = paths.STORED / "bench" / "live.json"
"""Where numbers are kept for `aegaeon claims`."""
