"""From version 1 of the configuration hash to version 2; nothing is run.

Run directories hold their configuration, and are renamed. The rows of a stored table are those of
its experiment's points, which are composed and hashed both ways.
"""

from aegaeon.results.rehash.command import rehash_command

__all__ = ["rehash_command"]
