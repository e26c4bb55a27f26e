"""From version 1 of the configuration hash to version 2, and to all columns; nothing is run.

A run directory holds its configuration, and is renamed. A stored table holds no configuration:
the points of its experiment are composed, and both hashes of every point are computed. A row that
lacks a column gets the column from its point.
"""

from aegaeon.results.rehash.columns import Experiments
from aegaeon.results.rehash.command import rehash_command

__all__ = ["Experiments", "rehash_command"]
