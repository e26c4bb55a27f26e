"""The controller of a live run, its messages and fault recovery; no torch, ray or vllm."""
