"""Aegaeon: serving many LLMs on few GPUs by switching models between tokens."""

__version__ = "0.1.0"
