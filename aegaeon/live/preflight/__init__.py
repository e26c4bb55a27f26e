"""Checks of a live run's configuration and machine, before anything starts.

The modules import no torch, ray or vllm.
"""
