"""One device: its instance, the models on it, and where their KV lies."""
