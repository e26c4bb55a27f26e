"""Results in MLflow: entries, the tracker, and the two ways to write."""
