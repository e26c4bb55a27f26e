"""The live backend's targets, measured on this machine: `aegaeon bench live`.

All targets are ratios or small absolute times within one process, measured in interleaved rounds.
The same command therefore judges the targets on any machine.
"""

from aegaeon import paths

STORED = paths.STORED / "bench" / "live.json"
"""The stored numbers that `aegaeon claims` reads."""
