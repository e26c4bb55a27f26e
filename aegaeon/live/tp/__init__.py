"""Tensor-parallel instances: a group of rank processes driven by one engine process."""
