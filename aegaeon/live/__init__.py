"""The live backend: vLLM engines in one process per device, with model switches between tokens."""
