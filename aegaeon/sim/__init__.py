"""The simulated backend: a virtual clock, instances, links and KV memory."""
