"""What no live run can use is refused here, before anything starts; no torch, ray or vllm."""
