"""The live backend: real vLLM engines in one process per device, switched between tokens."""
