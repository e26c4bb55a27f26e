"""Pure scheduling policies: the interface and Aegaeon's own."""
