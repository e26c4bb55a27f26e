"""The live backend's targets, measured on this machine: `aegaeon bench live`.

All are ratios or small absolute times within one process, taken in interleaved rounds, so the same
command says on any machine whether they are reached.
"""

from aegaeon import paths

STORED = paths.STORED / "bench" / "live.json"
"""Where numbers are kept for `aegaeon claims`."""
